"""What answers now: the champion's model and the catalog index, replaced while turns are answered.

A turn borrows what is live when it begins, and keeps it to its end. A new champion (or an earlier
one, after a rollback) is started beside the old one; once it has written a token, turns that begin
get the new one, and the old one ends after its last turn. A new index likewise. What fails to start
changes nothing: the old one goes on, and `status` says why.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from retail_assistant.corpus.rendering import PROMPT_VERSION, Message
from retail_assistant.evaluation.registry import Champion, champion_if_any
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref
from retail_assistant.serving.model_servers.endpoint import AWAY
from retail_assistant.serving.model_servers.server import PROBE, ModelServerError
from retail_assistant.serving.model_servers.variants import OpenModel, Variants
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import ModelAwayError, Versions, WritingModel, Written
from retail_assistant.settings import Settings

Shop = TypeVar("Shop")
OpenShop = Callable[[Path, str], Shop]
"""Opens the index in a folder, of a fingerprint; may take its time, in a thread of its own."""

CHAMPION, INDEX = "champion", "catalog_index"
SECONDS_TO_RETRY = 600.0
"""After a champion or index could not be opened; another one is tried at once."""

log = logging.getLogger(__name__)


class NoModel:
    """A `WritingModel` where none is open yet."""

    async def stream(
        self, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `WritingModel.stream`."""
        raise ModelAwayError(AWAY)
        yield


@dataclass(frozen=True)
class Live(Generic[Shop]):
    """What a turn is answered with; the same from its beginning to its end.

    champion: whose answers the model's are; None where that is not known, or no model is open.
    """

    model: WritingModel
    shop: Shop
    versions: Versions
    champion: Champion | None


@dataclass(frozen=True)
class LiveStatus:
    """How it is, for `/ready` and `/metrics`.

    why_not_ready: for who runs it; it may tell paths and logs, so it is not for shoppers.
    refused: what could not be opened ("champion", "catalog_index"), and why; the old one goes on.
    model_starts: how often the present model's server was started or reached; more than 1: it
        failed.
    switches: how often a model or an index was replaced.
    borrowed: turns that are being answered.
    cache_usage: how full the model's key-value cache is, 0 to 1; None: its server does not tell.
    """

    ready: bool
    why_not_ready: str | None
    versions: Versions
    refused: dict[str, str]
    model_starts: int
    switches: int
    borrowed: int
    cache_usage: float | None = None


@dataclass(eq=False)
class _Shared:
    """Something that turns use, and that is closed after the last of them."""

    close: Callable[[], Awaitable[None]] | None = None
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def used(self) -> Iterator[None]:
        self.users += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.users -= 1
            if not self.users:
                self.idle.set()

    async def retire(self, seconds: float) -> None:
        """Close it once nobody uses it, or after so many seconds."""
        try:
            await asyncio.wait_for(self.idle.wait(), seconds)
        except TimeoutError:
            log.warning("%d turns were still being answered after %g s", self.users, seconds)
        if self.close is not None:
            await self.close()


class LiveAssistant(Generic[Shop]):
    """Keeps what is live, and replaces it when the champion or the index changes."""

    def __init__(
        self,
        settings: Settings,
        serving: ServingSettings,
        open_shop: OpenShop[Shop],
        variants: Variants | None = None,
    ) -> None:
        self._settings, self._serving = settings, serving
        self._open_shop = open_shop
        self._variants = variants or Variants(settings, serving)
        self._live: Live[Shop] | None = None
        self._shop: Shop
        self._index: ArtefactRef | None = None
        self._open: OpenModel | None = None
        self._wanted: Champion | None = None
        self._model_users, self._index_users = _Shared(), _Shared()
        self._refused: dict[str, _Refused] = {}
        self._retiring: dict[asyncio.Task[None], _Shared] = {}
        self._switches = 0
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LiveAssistant[Shop]"]:
        """Open the index, then the model in the background; watch both; end all at the end.

        Raises:
            StorageError: there is no index yet.
            RuntimeError: it cannot be opened; says why.
        """
        await self._look_at_index()
        if self._live is None:
            raise RuntimeError(self._refused[INDEX].why)
        watching = asyncio.create_task(self._watch(), name="watch champion and index")
        try:
            yield self
        finally:
            watching.cancel()
            self._retire(self._model_users)
            for shared in self._retiring.values():
                shared.idle.set()
            # A server that was just being started ends beside the others, not after them.
            await asyncio.gather(watching, *self._retiring, return_exceptions=True)

    async def opened(self) -> None:
        """Until the first model is open.

        Raises:
            ModelServerError: it could not be opened; says why. It will be tried again.
        """
        await self._opened.wait()
        if self._open is None:
            raise ModelServerError(self._refused[CHAMPION].why)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Live[Shop]]:
        """What is live now, kept until the context ends."""
        with self._model_users.used(), self._index_users.used():
            yield self.now()

    async def check(self, seconds: float) -> None:
        """Let the model write one token.

        Raises:
            ModelAwayError: it does not, within so many seconds.
        """
        async with self.lease() as now:
            try:
                async with asyncio.timeout(seconds):
                    async for _ in now.model.stream(PROBE, 1):
                        pass
            except TimeoutError as error:
                raise ModelAwayError(AWAY) from error

    def status(self) -> LiveStatus:
        """How it is."""
        model = self._open
        refused = {name: one.why for name, one in self._refused.items()}
        why: str | None
        if model is None:
            why = refused.get(CHAMPION, "the model is being started")
        else:
            why = None if model.ready else model.why or "its server did not answer just now"
        return LiveStatus(
            ready=why is None,
            why_not_ready=why,
            versions=self.now().versions,
            refused=refused,
            model_starts=model.server.starts if model else 0,
            switches=self._switches,
            borrowed=max(self._model_users.users, self._index_users.users),
            cache_usage=model.server.cache_usage if model else None,
        )

    def now(self) -> Live[Shop]:
        """What is live at this moment; a turn borrows it (`lease`)."""
        if self._live is None:
            raise RuntimeError("the assistant is not running")
        return self._live

    async def _watch(self) -> None:
        # Each by itself: a model takes minutes to start, and the index need not wait for it.
        await asyncio.gather(
            *map(self._keep_looking, (self._look_at_champion, self._look_at_index))
        )

    async def _keep_looking(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await look()
            except Exception:
                # The watch itself must not end; what is live stays.
                log.exception("looking for a new champion or index failed")
            await asyncio.sleep(self._serving.watch_seconds)

    async def _look_at_champion(self) -> None:
        champion = await asyncio.to_thread(self._read_champion)
        if self._open is not None and champion == self._wanted:
            # Also after a rollback from one that could not be opened.
            self._refused.pop(CHAMPION, None)
            return
        again = SECONDS_TO_RETRY if self._open else self._serving.watch_seconds
        if self._was_refused(CHAMPION, champion, again):
            return
        try:
            model = await self._variants.open(champion, self._open)
        except Exception as error:
            self._refuse(CHAMPION, champion, error)
            return
        finally:
            # Of its end, good or bad, `opened` tells.
            self._opened.set()
        self._refused.pop(CHAMPION, None)
        self._switches += self._open is not None
        before, self._model_users = self._model_users, _Shared(lambda: self._variants.close(model))
        self._wanted, self._open = champion, model
        self._publish()
        self._retire(before)

    def _read_champion(self) -> Champion | None:
        return champion_if_any(self._settings)

    async def _look_at_index(self) -> None:
        ref = await asyncio.to_thread(read_artefact_ref, self._settings.storage, INDEX)
        if ref == self._index:
            self._refused.pop(INDEX, None)
            return
        if self._was_refused(INDEX, ref, SECONDS_TO_RETRY):
            return
        try:
            folder = await asyncio.to_thread(ref.part, "index")
            shop = await asyncio.to_thread(self._open_shop, folder, ref.fingerprint)
        except Exception as error:
            self._refuse(INDEX, ref, error)
            return
        self._refused.pop(INDEX, None)
        self._switches += self._index is not None
        self._index, self._shop, self._index_users = ref, shop, _Shared()
        self._publish()

    def _publish(self) -> None:
        """Turns that begin from here on get this; in one step, so that none sees half of it."""
        if self._index is None:
            return
        champion = self._open.champion if self._open else None
        versions = _versions(champion, self._index.fingerprint)
        self._live = Live(self._open or NoModel(), self._shop, versions, champion)
        log.info("live: %s", versions.model_dump_json())

    def _retire(self, old: _Shared) -> None:
        task = asyncio.create_task(old.retire(self._serving.turn_seconds))
        self._retiring[task] = old
        task.add_done_callback(self._retiring.pop)

    def _refuse(self, name: str, wanted: object, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._refused[name] = _Refused(wanted, time.monotonic(), why)
        log.error("%s cannot be opened; what is live goes on. %s", name, why)

    def _was_refused(self, name: str, wanted: object, seconds: float) -> bool:
        """Whether this very one could not be opened within the last so many seconds."""
        refused = self._refused.get(name)
        if refused is None or refused.wanted != wanted:
            return False
        return time.monotonic() - refused.when < seconds


@dataclass(frozen=True)
class _Refused:
    """What could not be opened, when (monotonic seconds) and why."""

    wanted: object
    when: float
    why: str


def _versions(champion: Champion | None, index: str) -> Versions:
    return Versions(
        job=champion.job if champion else None,
        adapter=champion.adapter.fingerprint if champion else None,
        event=champion.event if champion else None,
        index=index,
        prompt=PROMPT_VERSION,
    )
