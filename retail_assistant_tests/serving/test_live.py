"""What is live is replaced under load, and nobody notices; servers that fail come back."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from retail_assistant.serving.live import LiveAssistant
from retail_assistant.serving.model_servers.endpoint import ChatWriter
from retail_assistant.serving.model_servers.server import (
    Care,
    Command,
    ModelServer,
    ModelServerError,
)
from retail_assistant.serving.model_servers.variants import Variants
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import ModelAwayError
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError
from retail_assistant_tests.evaluation.manifests import finished
from retail_assistant_tests.families import family_of
from retail_assistant_tests.serving.champions import promote, publish_index, storage_with
from retail_assistant_tests.serving.model_server import WORDS

COMMAND = (
    f"{sys.executable} -m retail_assistant_tests.serving.model_server"
    " --host {host} --port {port} --name {name}"
)
PROMPT = [{"role": "user", "content": "Hello"}]
CARE = Care(seconds_to_start=60, seconds_between_looks=0.2, most_seconds_between_starts=1)
IMPATIENT = replace(CARE, seconds_to_answer=2.0, seconds_of_a_look=2.0)

Live = LiveAssistant[str]


@pytest.fixture
def settings(tmp_path: Path, tiny_model_folder: Path) -> Settings:
    settings = storage_with(tiny_model_folder, tmp_path)
    publish_index(settings, "index1")
    return settings


def open_shop(folder: Path, fingerprint: str) -> str:
    if "broken" in fingerprint:
        raise ValueError(f"{folder} is broken")
    return f"shop of {fingerprint}"


@asynccontextmanager
async def running(
    settings: Settings, command: str = COMMAND, care: Care = CARE
) -> AsyncIterator[Live]:
    serving = ServingSettings(variant="command", command=command, watch_seconds=0.1)
    variants = Variants(settings, serving, care)
    async with LiveAssistant(settings, serving, open_shop, variants).running() as live:
        yield live


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


async def answer(live: Live) -> tuple[str, str | None, str]:
    """One turn: who said it was answering, who did, and from which shop."""
    async with live.lease() as now:
        pieces = [piece async for piece in now.model.stream(PROMPT, 100)]
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].completion_tokens == WORDS == len(pieces) - 1
    said = {piece.text.strip() for piece in pieces[:-1]}
    assert len(said) == 1
    assert now.shop == f"shop of {now.versions.index}"
    return said.pop(), now.versions.adapter, now.versions.index


def servers() -> list[psutil.Process]:
    """The model servers that were started from here, however far below."""
    family = family_of(psutil.Process())
    return [
        one for one, words in family if "retail_assistant_tests.serving.model_server" in words[2:3]
    ]


def test_champion_and_index_are_replaced_under_load(settings: Settings) -> None:
    first = promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings) as live:
            status = live.status()
            assert (status.ready, status.versions.job) == (False, None)
            async with live.lease() as now:
                with pytest.raises(ModelAwayError):
                    await anext(now.model.stream(PROMPT, 1))
            await live.opened()
            await live.check(10)
            heard: Counter[tuple[str, str | None, str]] = Counter()
            stop = asyncio.Event()

            async def ask() -> None:
                while not stop.is_set():
                    heard[await answer(live)] += 1

            async with asyncio.TaskGroup() as clients:
                for _ in range(8):
                    clients.create_task(ask())
                await asyncio.sleep(0.3)
                second = promote(settings, "two", 2)
                await until(lambda: live.status().versions.job == "two", "the second champion")
                publish_index(settings, "index2")
                await until(lambda: live.status().versions.index == "index2", "the second index")
                await asyncio.sleep(0.3)
                promote(settings, "one", 3)
                await until(lambda: live.status().versions.event == 3, "the rollback")
                await asyncio.sleep(0.3)
                stop.set()
            # Each answer says whose it is, and it was whose the server said.
            assert {(said, adapter) for said, adapter, _ in heard} == {
                (first, "print-one"),
                (second, "print-two"),
            }
            assert {index for *_, index in heard} == {"index1", "index2"}
            await until(lambda: len(servers()) == 1, "the end of the old servers")
            assert live.status().switches == 3
        assert not servers()

    asyncio.run(run())


@pytest.mark.fault(
    "A new champion or index cannot be opened",
    "The old one goes on, and the status says why",
)
def test_what_does_not_open_leaves_the_old_one(settings: Settings) -> None:
    first = promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings) as live:
            await live.opened()
            promote(settings, "broken", 2)
            publish_index(settings, "broken")
            await until(lambda: len(live.status().refused) == 2, "refusals")
            status = live.status()
            assert status.ready
            assert "these weights are broken" in status.refused["champion"]
            assert "is broken" in status.refused["catalog_index"]
            assert await answer(live) == (first, "print-one", "index1")
            promote(settings, "one", 1)
            publish_index(settings, "index1")
            await until(lambda: not live.status().refused, "what is live is wanted again")
            assert live.status().switches == 0

    asyncio.run(run())


@pytest.mark.fault(
    "a new catalog index is damaged when the assistant would open it",
    "the old one goes on, and the status says which file",
)
def test_an_altered_index_is_not_opened(settings: Settings) -> None:
    folder = settings.storage / "artefacts" / "catalog_index" / "index2"
    finished(folder, {"index/rows": b"rows"}, {}, {})
    (folder / "index" / "rows").write_bytes(b"row5")
    promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings) as live:
            await live.opened()
            publish_index(settings, "index2")
            await until(lambda: "catalog_index" in live.status().refused, "refusal")
            assert "index/rows was altered" in live.status().refused["catalog_index"]
            assert (await answer(live))[2] == "index1"

    asyncio.run(run())


def test_a_server_is_not_started_with_altered_files(tmp_path: Path) -> None:
    def command(_: Path) -> Command:
        raise StorageError("model/weights was altered")

    server = ModelServer(
        "server 1",
        command,
        health="/health",
        writer=ChatWriter(None),
        choose=lambda _: asyncio.sleep(0, "name"),
        care=CARE,
        log_path=tmp_path / "log.txt",
    )
    with pytest.raises(ModelServerError, match="server 1 is not started: model/weights was alt"):
        asyncio.run(server.start())


def test_without_a_champion_the_shop_is_open_and_the_model_says_why(settings: Settings) -> None:
    async def run() -> None:
        async with running(settings) as live:
            with pytest.raises(ModelServerError, match="nothing was promoted yet"):
                await live.opened()
            assert "nothing was promoted" in (live.status().why_not_ready or "")
            promote(settings, "one", 1)
            await until(lambda: live.status().ready, "the first promotion")

    asyncio.run(run())


@pytest.mark.fault(
    "A model server is killed while it answers",
    "The shopper is told to ask again, and it is started again",
)
def test_a_killed_server_is_started_again(settings: Settings) -> None:
    promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings) as live:
            await live.opened()
            async with live.lease() as now, aclosing(now.model.stream(PROMPT, 100)) as pieces:
                await anext(pieces)
                servers()[0].kill()
                with pytest.raises(ModelAwayError) as told:
                    async for _ in pieces:
                        pass
                assert not live.status().ready
                assert "127.0.0.1" not in str(told.value)
                await until(lambda: live.status().ready, "a new start")
                assert live.status().model_starts == 2
                # A lease outlives its model's server.
                assert [piece async for piece in now.model.stream(PROMPT, 100)][-1].finish_reason

    asyncio.run(run())


@pytest.mark.fault(
    "A model server hangs, whether or not it says that it is well",
    "It is not ready until it writes again, and is started anew",
)
@pytest.mark.parametrize(
    "how", [signal.SIGUSR1, pytest.param(signal.SIGSTOP, marks=pytest.mark.long_fault)]
)
def test_a_server_that_hangs_is_started_again(settings: Settings, how: signal.Signals) -> None:
    promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings, care=IMPATIENT) as live:
            await live.opened()
            said = await answer(live)
            servers()[0].send_signal(how)
            with pytest.raises(ModelAwayError):
                await answer(live)
            assert not live.status().ready
            await until(lambda: live.status().ready, "a new start")
            assert live.status().model_starts == 2
            assert await answer(live) == said
        assert not servers()

    asyncio.run(run())


def test_a_command_that_is_not_there_is_named(settings: Settings) -> None:
    promote(settings, "one", 1)

    async def run() -> None:
        async with running(settings, "no-such-program --port {port}") as live:
            with pytest.raises(ModelServerError, match="no-such-program: No such file"):
                await live.opened()

    asyncio.run(run())


LINGERING = """
import asyncio, sys
from pathlib import Path
from retail_assistant.serving.model_servers.commands import given_command
from retail_assistant.serving.model_servers.endpoint import ChatWriter
from retail_assistant.serving.model_servers.server import Care, ModelServer

async def choose(connection):
    return (await connection.model_names())[0]

async def main():
    server = ModelServer(
        "s", lambda _: given_command(sys.argv[1], None, "n", None), health="/v1/models",
        writer=ChatWriter(), choose=choose, care=Care(60), log_path=Path(sys.argv[2]),
    )
    await server.start()
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.fault(
    "The assistant's own process is killed",
    "Its model servers end too",
)
def test_a_killed_parent_leaves_no_server(tmp_path: Path) -> None:
    async def run() -> None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LINGERING, COMMAND, tmp_path / "log.txt", stdout=-1
        )
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"started\n"
        left = psutil.Process(parent.pid).children(recursive=True)
        assert len(left) == 2  # the guard and the server
        os.kill(parent.pid, signal.SIGKILL)
        await parent.wait()
        await until(lambda: not any(one.is_running() for one in left), "the end of the server")

    asyncio.run(run())
