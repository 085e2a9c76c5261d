"""vLLM's own server: reads what was trained, takes in adapters, comes back after a kill."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from retail_assistant.corpus.rendering import Message, render_prompt
from retail_assistant.evaluation.transformers_engine import TransformersEngine
from retail_assistant.serving.model_servers.endpoint import PromptTooLongError, TokenWriter
from retail_assistant.serving.model_servers.server import GUARD, Care
from retail_assistant.serving.model_servers.variants import OpenModel, Variants
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.served import served_model
from retail_assistant.serving.turns import ModelAwayError
from retail_assistant.telemetry import tracing
from retail_assistant_tests.evaluation.test_engine import TALKATIVE
from retail_assistant_tests.families import family_of
from retail_assistant_tests.model_families import gemma_tokenizer, save_tiny_model
from retail_assistant_tests.serving.champions import champion, storage_with
from retail_assistant_tests.telemetry.collector import Collector
from retail_assistant_tests.telemetry.conftest import collector

__all__ = ["collector"]

LENGTH = 512
HISTORY = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]
PROMPT = render_prompt("What is it made of?", history=HISTORY)
TOKENS = 12


async def text_of(model: OpenModel, prompt: Sequence[Message], tokens: int = TOKENS) -> str:
    pieces = [piece async for piece in model.stream(prompt, tokens)]
    assert pieces[-1].finish_reason in ("stop", "length")
    return "".join(piece.text for piece in pieces).strip()


def _of_servers() -> list[psutil.Process]:
    """The processes of model servers; other tests of this worker may have left a Ray running."""
    family = family_of(psutil.Process())
    guards = [one for one, words in family if GUARD in words]
    return guards + [one for guard in guards for one, _ in family_of(guard)]


@pytest.mark.slow
@pytest.mark.fault(
    "vLLM is killed while it answers",
    "It comes back with the adapters that it had taken in",
)
def test_vllm_reads_what_was_trained_takes_in_adapters_and_comes_back(
    tmp_path: Path, collector: Collector
) -> None:
    base = tmp_path / "base"
    # Gemma: its template refuses a system message, and both it and the tokenizer write a beginning.
    save_tiny_model(base, gemma_tokenizer(), **TALKATIVE)
    settings = storage_with(base, tmp_path / "store")
    first = champion(settings, "one", 1, adapter_seed=1)
    second = champion(settings, "two", 2, adapter_seed=2)
    served = served_model(first, settings)
    encoder = served.encoder()
    paths = {one.job: one.adapter.folder / "adapter" for one in (first, second)}
    engine = TransformersEngine(base, paths, encoder, gemma_tokenizer(), LENGTH)
    wanted = {job: engine.answer([PROMPT], TOKENS, job)[0].text for job in paths}
    assert wanted["one"] != wanted["two"]
    serving = ServingSettings(
        weights="adapter",
        max_context_tokens=LENGTH,
    )
    care = Care(seconds_to_start=300, seconds_between_looks=1, most_seconds_between_starts=2)

    async def run() -> None:
        variants = Variants(settings, serving, care)
        new = old = await variants.open(first)
        try:
            # Nothing of it listens but to this machine, and its own routes only to this process.
            assert _of_servers()
            for one in _of_servers():
                listening = [c for c in one.net_connections() if c.status == psutil.CONN_LISTEN]
                assert {c.laddr.ip for c in listening} <= {"127.0.0.1"}

            # vLLM itself tells which tokens it has read.
            request = TokenWriter(encoder, LENGTH).request(old.name, PROMPT, 1)
            request["extra_body"] |= {"return_token_ids": True}
            told = await old.server.connection.openai.completions.create(**request)
            read = (told.choices[0].model_extra or {})["prompt_token_ids"]
            assert read == encoder.prompt(PROMPT)
            assert await text_of(old, PROMPT) == wanted["one"]
            with pytest.raises(PromptTooLongError):
                await anext(old.stream([{"role": "user", "content": "word " * 2000}], 1))

            async with asyncio.timeout(60):
                while (usage := old.server.cache_usage) is None:
                    await asyncio.sleep(0.1)
            assert 0 <= usage <= 1

            # Both answer at once, from one server.
            new = await variants.open(second, beside=old)
            assert new.server is old.server
            both = await asyncio.gather(text_of(old, PROMPT), text_of(new, PROMPT))
            assert both == [wanted["one"], wanted["two"]]
            await variants.close(old)
            with pytest.raises(ModelAwayError):
                await anext(old.stream(PROMPT, 1))

            async with aclosing(new.stream(PROMPT, LENGTH)) as pieces:
                await anext(pieces)
                for one, words in family_of(psutil.Process()):
                    if "vllm.entrypoints.launchers.api_server.entry" in words:
                        one.kill()
                with pytest.raises(ModelAwayError):
                    async for _ in pieces:
                        pass
            assert not new.ready
            async with asyncio.timeout(300):
                while not new.ready:
                    await asyncio.sleep(0.1)
            # What it had taken in it has again. Asked in a trace, it adds its own span to it.
            with tracing.span("turn"):
                assert await text_of(new, PROMPT) == wanted["two"]
        finally:
            await variants.close(new)
        assert not _of_servers()

    asyncio.run(run())
    tracing.flush()
    turn = collector.one("turn")
    (request,) = [one for one in collector.spans if one.parent == turn.span]
    assert (request.name, request.trace) == ("llm_request", turn.trace)
    assert request.service == "retail-assistant-vllm"
    assert request.attributes["gen_ai.usage.completion_tokens"] > 0


@pytest.mark.slow
@pytest.mark.long_fault
@pytest.mark.fault(
    "vLLM's engine hangs",
    "It is not ready until it writes again, and is started anew",
)
def test_a_vllm_whose_engine_hangs_is_started_again(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_tiny_model(base, gemma_tokenizer(), **TALKATIVE)
    settings = storage_with(base, tmp_path / "store")
    serving = ServingSettings(weights="adapter", max_context_tokens=LENGTH)
    care = Care(seconds_to_start=300, seconds_to_answer=5, seconds_of_a_look=5)

    async def run() -> None:
        variants = Variants(settings, serving, care)
        model = await variants.open(champion(settings, "one", 1, adapter_seed=1))
        try:
            said = await text_of(model, PROMPT)
            family = family_of(psutil.Process())
            engines = [one for one, words in family if "EngineCore" in " ".join(words)]
            assert engines
            for engine in engines:
                engine.suspend()
            with pytest.raises(ModelAwayError):
                await text_of(model, PROMPT)
            async with asyncio.timeout(400):
                while not model.ready:
                    await asyncio.sleep(0.1)
            assert model.server.starts == 2
            assert await text_of(model, PROMPT) == said
        finally:
            await variants.close(model)
        assert not _of_servers()

    asyncio.run(run())
