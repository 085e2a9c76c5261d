"""A model server's life: started or reached, watched, started again when it fails, ended.

While it is away its models say so (`ModelAwayError`), and it is not ready. It is tried again for as
long as it is wanted, with growing pauses.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from retail_assistant.corpus.rendering import Message
from retail_assistant.launch.local import quiet_environment
from retail_assistant.serving.model_servers.endpoint import (
    AWAY,
    Connection,
    Endpoint,
    LostModelError,
    Writer,
    connect,
)
from retail_assistant.serving.turns import ModelAwayError, Written
from retail_assistant.storage import StorageError

GUARD = "retail_assistant.serving.model_servers.guard"
PROBE: list[Message] = [{"role": "user", "content": "Hello"}]
METRICS_ROUTE = "/metrics"
SECONDS_BETWEEN_TRIES = 0.2
LOG_TAIL_LINES = 15
SECONDS_TO_END = 60.0

log = logging.getLogger(__name__)


class ModelServerError(RuntimeError):
    """A model server does not start or cannot be reached; says why, for who runs it."""


@dataclass(frozen=True)
class Care:
    """How a server is watched."""

    seconds_to_start: float
    seconds_to_answer: float = 60.0
    seconds_between_looks: float = 2.0
    seconds_of_a_look: float = 10.0
    failures: int = 3
    most_seconds_between_starts: float = 60.0


@dataclass(frozen=True)
class Command:
    """What starts a server, and how it is asked."""

    words: Sequence[str]
    endpoint: Endpoint
    environment: dict[str, str] = field(default_factory=dict)


class Guarded:
    """A started command with the guard that ends it when this process is gone."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self._process, self._log = process, log_path

    @classmethod
    async def start(cls, command: Command, log_path: Path) -> "Guarded":
        """Start it."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            GUARD,
            str(log_path),
            *command.words,
            env={**os.environ, **quiet_environment(), **command.environment},
            # Its end is the guard's sign to end the command.
            stdin=asyncio.subprocess.PIPE,
            # No group of this one's: Ctrl-C is for this process, which then ends the server.
            start_new_session=True,
        )
        return cls(process, log_path)

    @property
    def ended(self) -> bool:
        """Whether it is there no more."""
        return self._process.returncode is not None

    async def wait(self) -> None:
        """Until it is there no more."""
        await self._process.wait()

    async def end(self) -> None:
        """End it with all that came of it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), SECONDS_TO_END)
        except TimeoutError:
            # Never killed: it alone knows all of the command's processes, and goes on ending them.
            log.warning(
                "a model server has not ended after %g s. Log: %s", SECONDS_TO_END, self._log
            )

    def last_words(self) -> str:
        """How it ended, where its log is, and the end of that."""
        code = self._process.returncode
        told = f"ended with exit code {code}" if code is not None else "has not answered"
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join([f"{told}. Log: {self._log}", *lines[-LOG_TAIL_LINES:]])


@dataclass(frozen=True)
class Running:
    """A server that answers now."""

    connection: Connection
    process: Guarded | None = None

    async def end(self) -> None:
        """Leave it; end it where it was started here."""
        if self.process is not None:
            await self.process.end()
        await self.connection.close()


class ModelServer:
    """A server that is kept running.

    Args:
        name: what messages call it.
        command: what starts it, made anew for each start (a socket's folder is given); or where it
            is, if it is not started here.
        health: path beside /v1 that answers with success while it is well.
        writer: how its models are asked.
        choose: which of its models has to write before it counts as started; asked at each start.
        care: how it is watched.
        log_path: for what it writes.
        cache: the metric that tells how full its key-value cache is, where it has one.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Path], Command] | Endpoint,
        *,
        health: str,
        writer: Writer,
        choose: Callable[[Connection], Awaitable[str]],
        care: Care,
        log_path: Path,
        cache: str | None = None,
    ) -> None:
        self.name, self.writer = name, writer
        self._command, self._health, self._care = command, health, care
        self._choose, self._log = choose, log_path
        self._cache = cache
        self._folder = TemporaryDirectory(prefix="retail-model-")
        self._running: Running | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._suspected = asyncio.Event()
        self._failures = 0
        self._heard = 0.0
        """When a model has last written something (monotonic seconds)."""

        self.why: str | None = "it was not started yet"
        self.starts = 0
        self.cache_usage: float | None = None
        """How full its key-value cache was at the last look, 0 to 1; None: it does not tell."""

    @property
    def ready(self) -> bool:
        """Whether it answers, as far as is known."""
        return self._running is not None and self._failures == 0

    async def start(self) -> str:
        """Start or reach it, until one of its models has written a token; that model's name.

        Raises:
            ModelServerError: it does not come up; it is ended, and not tried again.
        """
        try:
            self._running, name = await self._launch()
        except BaseException:
            self._folder.cleanup()
            raise
        self.why = None
        self._keeping = asyncio.create_task(self._keep(self._running), name=f"keep {self.name}")
        return name

    async def close(self) -> None:
        """End it, where it was started here."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        running, self._running = self._running, None
        self.why = "it was ended"
        if running is not None:
            await running.end()
        self._folder.cleanup()

    @property
    def connection(self) -> Connection:
        """Its clients.

        Raises:
            ModelAwayError: it is away.
        """
        if self._running is None:
            raise ModelAwayError(AWAY)
        return self._running.connection

    async def stream(
        self, name: str, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `WritingModel.stream`, of the model that it calls `name`."""
        running = self._running
        if running is None:
            raise ModelAwayError(AWAY)
        began = time.monotonic()
        try:
            pieces = self.writer.stream(running.connection, name, prompt, max_tokens)
            async with aclosing(pieces):
                async for piece in pieces:
                    self._heard = time.monotonic()
                    yield piece
        except LostModelError:
            if running is self._running:
                # Not ready until it is well and writes again.
                self._failures = max(1, self._failures)
                self._suspected.set()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            # Who asked has lost patience: rightly so, where nobody was written to for long.
            silent = time.monotonic() - max(began, self._heard)
            if running is self._running and silent > self._care.seconds_of_a_look:
                self._suspected.set()
            raise

    async def _launch(self) -> tuple[Running, str]:
        """One try.

        Raises:
            ModelServerError: says why it does not run.
        """
        self.starts += 1
        if isinstance(self._command, Endpoint):
            running = Running(connect(self._command, self._care.seconds_to_answer))
        else:
            folder = Path(self._folder.name) / str(self.starts)
            folder.mkdir()
            command = await self._how_to_start(self._command, folder)
            process = await Guarded.start(command, self._log)
            running = Running(connect(command.endpoint, self._care.seconds_to_answer), process)
        try:
            name = await self._until_it_writes(running)
        except BaseException:
            await asyncio.shield(running.end())
            raise
        self._failures = 0
        self._suspected.clear()
        return running, name

    async def _how_to_start(self, command: Callable[[Path], Command], folder: Path) -> Command:
        """The command, which names files that are as they were made.

        Raises:
            ModelServerError: they are not; says which.
        """
        try:
            # In a thread: files that have changed are hashed.
            return await asyncio.to_thread(command, folder)
        except StorageError as error:
            raise ModelServerError(f"{self.name} is not started: {error}") from error

    async def _until_it_writes(self, running: Running) -> str:
        deadline = time.monotonic() + self._care.seconds_to_start
        while not await running.connection.is_healthy(self._health, self._care.seconds_of_a_look):
            if running.process is None:
                raise ModelServerError(f"{self.name}: {self._health} does not answer with success")
            if running.process.ended or time.monotonic() > deadline:
                raise ModelServerError(f"{self.name} {running.process.last_words()}")
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)
        try:
            name = await self._choose(running.connection)
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                async for _ in self.writer.stream(running.connection, name, PROBE, 1):
                    pass
        except (ModelAwayError, TimeoutError) as error:
            told = f"\n{running.process.last_words()}" if running.process else ""
            raise ModelServerError(
                f"{self.name} answers {self._health}, but writes nothing: {error}{told}"
            ) from error
        return name

    async def _keep(self, running: Running) -> None:
        while True:
            self.why = await self._until_away(running)
            self.cache_usage = None
            self._running = None
            log.warning("%s is away: %s", self.name, self.why)
            await running.end()
            async for attempt in AsyncRetrying(
                wait=wait_exponential(min=0.5, max=self._care.most_seconds_between_starts),
                retry=retry_if_exception_type(ModelServerError),
            ):
                with attempt:
                    try:
                        running, _ = await self._launch()
                    except ModelServerError as error:
                        self.why = str(error)
                        log.warning("%s", error)
                        raise
            self._running, self.why = running, None
            log.warning("%s answers again", self.name)

    async def _until_away(self, running: Running) -> str:
        """Watch a server; why it is given up."""
        is_lost = False
        while True:
            is_lost = await self._pause(running) or is_lost
            if running.process is not None and running.process.ended:
                return f"the server {running.process.last_words()}"
            well = await running.connection.is_healthy(self._health, self._care.seconds_of_a_look)
            why = f"{self._health} did not answer with success"
            if well and is_lost:
                # One whose engine hangs says that it is well for as long as it is asked.
                well = await self._writes(running)
                why = f"it answers {self._health}, but writes nothing"
            is_lost = is_lost and not well
            self._failures = 0 if well else self._failures + 1
            if self._cache:
                self.cache_usage = await running.connection.gauge(
                    METRICS_ROUTE, self._cache, self._care.seconds_of_a_look
                )
            if self._failures >= self._care.failures:
                return f"{why}, {self._failures} times in a row"

    async def _writes(self, running: Running) -> bool:
        """Whether one of its models writes, for this or for whoever else asks meanwhile."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._care.seconds_of_a_look):
                name = await self._choose(running.connection)
                async for _ in self.writer.stream(running.connection, name, PROBE, 1):
                    pass
        except (LostModelError, ModelServerError, TimeoutError):
            return self._heard > began
        except ModelAwayError:
            # It answers, if only that it does not like what it was asked.
            return True
        return True

    async def _pause(self, running: Running) -> bool:
        """Until the next look: sooner where the process ends, or an answer was lost; whether one
        was.
        """
        seconds = self._care.seconds_between_looks
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._suspected.wait())]
        if running.process is not None:
            waits.append(asyncio.create_task(running.process.wait()))
        try:
            if self._failures:
                seconds = min(seconds, SECONDS_BETWEEN_TRIES)
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        is_lost = self._suspected.is_set()
        self._suspected.clear()
        return is_lost
