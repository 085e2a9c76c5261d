"""A worker: downloads, checks and stores images, many at a time, and leaves a receipt for each.

Runs as a Ray actor, and as a plain object in one event loop. Downloads wait in the event loop;
decoding and writing happen in threads (Pillow gives the interpreter's lock away while it decodes).
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import ClientSession
from yarl import URL

from retail_assistant.catalog.images.addresses import RefusedUrlError, checked_url
from retail_assistant.catalog.images.decoding import (
    DecodedImage,
    NotAnImageError,
    decode_image,
)
from retail_assistant.catalog.images.download import (
    Body,
    DownloadError,
    HostGivenUpError,
    ask,
    open_session,
    retrying,
)
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import (
    Receipt,
    image_name,
    thumbnail_name,
    write_receipt,
)
from retail_assistant.objects import ObjectStore

NO_RECEIPTS: Mapping[str, Mapping[str, Any]] = {}
DECODING_THREADS = 1
"""There is a worker a core; with two the threads cost each other more than they do."""
MAX_WRITING_THREADS = 64


class ImageWorker:
    """Fetches images within a share of the policy's concurrency.

    Args:
        policy: limits; its concurrency is the whole run's.
        store_uri: where images go.
        run: the run's fingerprint, for receipts.
        concurrency: this worker's share of downloads at a time.
        per_host: this worker's share of downloads at a time from one host.
    """

    def __init__(
        self, policy: ImagePolicy, store_uri: str, run: str, concurrency: int, per_host: int
    ) -> None:
        self._policy = policy
        self._store = ObjectStore(store_uri)
        self._stamp = {"run": run, "limits": policy.limits}
        self._total = asyncio.Semaphore(concurrency)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_host))
        # Bodies that wait for a decoder: when it falls behind, downloads wait instead of piling up.
        self._undecoded = asyncio.Semaphore(concurrency)
        self._unanswered: Counter[str] = Counter()
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, "decode")
        self._writing = ThreadPoolExecutor(min(concurrency, MAX_WRITING_THREADS), "write")
        self._session: ClientSession | None = None

    async def fetch(
        self, urls: Sequence[str], earlier: Mapping[str, Mapping[str, Any]] = NO_RECEIPTS
    ) -> list[dict[str, Any]]:
        """What came of each URL, in order: receipts, as plain values (Ray sends them on).

        An image that an `earlier` receipt (by URL) speaks of is taken from the store, if it is
        there: it wants a new thumbnail, not another download.

        Raises:
            ObjectStoreError: the store does not take images; nothing more can be done.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._receipt(url, earlier.get(url))) for url in urls]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result().model_dump() for task in tasks]

    async def ready(self) -> bool:
        """Whether the worker stands: an actor that cannot be made fails here, before the work."""
        return self._session is None

    async def close(self) -> None:
        """Close connections and threads."""
        if self._session is not None:
            await self._session.close()
        for pool in (self._decoding, self._writing):
            pool.shutdown(wait=True, cancel_futures=True)

    async def _receipt(self, text: str, earlier: Mapping[str, Any] | None) -> Receipt:
        try:
            url = checked_url(text, self._policy)
        except RefusedUrlError as error:
            return Receipt(url=text, status=error.status, detail=str(error), **self._stamp)
        receipt = await self._from_store(text, earlier) if earlier else None
        receipt = receipt or await self._asked(text, url)
        if receipt.status != "stored" and not receipt.may_pass:
            await self._in_thread(self._writing, write_receipt, self._store, receipt)
        return receipt

    async def _from_store(self, text: str, earlier: Mapping[str, Any]) -> Receipt | None:
        name = image_name(earlier["sha256"], earlier["type"])
        content = await self._in_thread(self._writing, self._store.get, name)
        if content is None or hashlib.sha256(content).hexdigest() != earlier["sha256"]:
            return None
        return await self._kept(text, Body(content, earlier["declared_type"]), earlier["attempts"])

    async def _asked(self, text: str, url: URL) -> Receipt:
        attempts = 0
        try:
            async for attempt in retrying(self._policy):
                with attempt:
                    attempts += 1
                    body = await self._body(url)
        except DownloadError as error:
            return Receipt(
                url=text,
                status=error.status,
                detail=str(error),
                may_pass=error.may_pass,
                attempts=attempts,
                **self._stamp,
            )
        try:
            return await self._kept(text, body, attempts)
        finally:
            self._undecoded.release()

    async def _body(self, url: URL) -> Body:
        """A URL's body, over its redirects. Each host's slots are held while it is asked.

        Leaves with a place among the undecoded bodies, which the caller gives back.
        """
        for _ in range(self._policy.max_redirects + 1):
            host = f"{url.host}:{url.port}"
            async with self._hosts[host], self._total:
                answer = await self._answer(host, url)
                if isinstance(answer, Body):
                    await self._undecoded.acquire()
                    return answer
                url = answer
        raise DownloadError("http_error", f"more than {self._policy.max_redirects} redirects")

    async def _answer(self, host: str, url: URL) -> Body | URL:
        if self._unanswered[host] >= self._policy.give_up_host_after:
            raise HostGivenUpError(host, self._unanswered[host])
        self._session = self._session or open_session(self._policy)
        try:
            answer = await ask(self._session, url, self._policy)
        except DownloadError as error:
            lost = error.status in ("timeout", "connection_error")
            self._unanswered[host] = self._unanswered[host] + 1 if lost else 0
            raise
        self._unanswered[host] = 0
        return answer

    async def _kept(self, text: str, body: Body, attempts: int) -> Receipt:
        facts: dict[str, Any] = {
            "url": text,
            "declared_type": body.declared_type,
            "size": len(body.content),
            "attempts": attempts,
            **self._stamp,
        }
        try:
            digest, image = await self._in_thread(
                self._decoding, _judged, body.content, self._policy
            )
        except NotAnImageError as error:
            return Receipt(status=error.status, detail=str(error), **facts)
        receipt = Receipt(
            status="stored",
            detail=_mismatch(body.declared_type, image.type),
            sha256=digest,
            type=image.type,
            width=image.width,
            height=image.height,
            **facts,
        )
        await self._in_thread(self._writing, self._keep, receipt, body.content, image.thumbnail)
        return receipt

    def _keep(self, receipt: Receipt, content: bytes, thumbnail: bytes) -> None:
        """Store an image: its receipt last, so that it speaks of what is there."""
        digest, kind = str(receipt.sha256), str(receipt.type)
        self._store.put(thumbnail_name(digest, self._policy.thumbnail_side), thumbnail)
        self._store.put(image_name(digest, kind), content)
        write_receipt(self._store, receipt)

    async def _in_thread(
        self, pool: ThreadPoolExecutor, work: Callable[..., Any], *given: Any
    ) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *given)


def _judged(content: bytes, policy: ImagePolicy) -> tuple[str, DecodedImage]:
    """An image's hash, and what it is."""
    image = decode_image(content, policy)
    return hashlib.sha256(content).hexdigest(), image


def _mismatch(declared: str | None, kind: str) -> str:
    """What to say of an image that is not what the server called it."""
    named = (declared or "").strip().lower().replace("image/jpg", "image/jpeg")
    return "" if named == kind else f"declared as {named or 'nothing'}, is {kind}"
