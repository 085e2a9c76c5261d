"""vLLM with a base model and its adapters, on CUDA or a CPU."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.rendering import Message
from retail_assistant.evaluation.adapter_weights import (
    adapted_modules,
    adapter_config,
    rank_step,
    weights,
)
from retail_assistant.evaluation.engine import Answer, Engine, by_adapter, joined
from retail_assistant.vllm_options import vllm_options

MOST_IN_A_BATCH = 16
"""Adapters whose weights lie beside the base's on the GPU at once; more take turns."""


class Adapters(Protocol):
    """How the engine gets at an adapter's weights."""

    together: bool
    """Whether requests of several adapters can be answered in the same batch."""

    def options(self) -> dict[str, Any]:
        """What the engine is started with for them."""
        ...

    def request(self, llm: Any, adapter: str | None) -> Any:
        """Make ready for requests of an adapter; what to hand vLLM with them (None: nothing)."""
        ...


class BesideTheBase:
    """Every request names its adapter, and vLLM adds its low-rank products (on CUDA)."""

    together = True

    def __init__(self, adapters: Mapping[str, Path]) -> None:
        self._adapters = dict(adapters)
        # vLLM knows an adapter by its number, and does not notice one that is used twice.
        self._numbers = {name: number for number, name in enumerate(self._adapters, start=1)}

    def options(self) -> dict[str, Any]:
        """The engine's arguments: room for as many adapters, of the largest rank."""
        if not self._adapters:
            return {}
        folders = self._adapters.values()
        return {
            "enable_lora": True,
            "max_loras": min(len(self._adapters), MOST_IN_A_BATCH),
            "max_cpu_loras": len(self._adapters),
            "max_lora_rank": max(rank_step(folder) for folder in folders),
            # Without them vLLM also wraps the vocabulary head, and then gives wrong prompt_logprobs
            # or fails (https://github.com/vllm-project/vllm/issues/51594).
            "lora_target_modules": sorted(set().union(*map(adapted_modules, folders))),
        }

    def request(self, llm: Any, adapter: str | None) -> Any:
        """What vLLM calls a request of an adapter."""
        from vllm.lora.request import LoRARequest

        if adapter is None:
            return None
        return LoRARequest(adapter, self._numbers[adapter], str(self._adapters[adapter]))


class SwappedWeights:
    """The running engine's weights become those of the adapter that is asked (on a CPU).

    Through vLLM's own reloading, which fuses query, key and value and packs what its CPU kernels
    want packed. For the model of 135M parameters that takes a second, an engine's start 25.
    """

    together = False

    def __init__(self, base: Path, adapters: Mapping[str, Path]) -> None:
        self._base, self._adapters = base, dict(adapters)
        self._loaded: str | None = None
        for folder in self._adapters.values():
            adapter_config(folder)  # what cannot be served is refused before anything is asked

    def options(self) -> dict[str, Any]:
        """The engine's arguments: it knows nothing of adapters."""
        return {}

    def request(self, llm: Any, adapter: str | None) -> None:
        """Load the weights, unless they are there."""
        if adapter == self._loaded:
            return
        folder = self._adapters[adapter] if adapter is not None else None
        # Until the last weight is in place they are nobody's.
        self._loaded = f"part of {adapter}"
        llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": weights(self._base, folder)}
        )
        if not llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache, which is of other weights")
        self._loaded = adapter


def open_vllm(
    base: Path, adapters: Mapping[str, Path], encoder: Encoder, max_length: int, *, on_gpu: bool
) -> "VllmEngine":
    """A started engine.

    Raises:
        ImportError: vLLM is not installed, or cannot be used here.
        AdapterError: an adapter is of a kind that is not served.
    """
    held: Adapters = BesideTheBase(adapters) if on_gpu else SwappedWeights(base, adapters)
    return VllmEngine(base, held, encoder, max_length, on_gpu=on_gpu)


class VllmEngine(Engine):
    """An `Engine` on vLLM."""

    def __init__(
        self,
        base: Path,
        adapters: Adapters,
        encoder: Encoder,
        max_length: int,
        *,
        on_gpu: bool,
    ) -> None:
        options = vllm_options(base, max_length, on_gpu=on_gpu)
        from vllm import LLM

        self._llm = LLM(**options, **adapters.options())
        self._adapters = adapters
        self._encoder, self._max_length = encoder, max_length
        self._asked = 0
        self.name = "vllm on " + ("cuda" if on_gpu else "cpu")

    def finished(
        self,
        conversations: Sequence[list[Message]],
        max_tokens: int,
        adapters: Sequence[str | None],
    ) -> Iterator[tuple[int, Answer]]:
        """As `Engine.finished`; where weights are swapped, one adapter after the other."""
        prompts = list(self._encoder.prompts(conversations))
        waiting: dict[str, int] = {}
        for adapter, numbers in by_adapter(adapters).items():
            request = self._adapters.request(self._llm, adapter)
            for number in numbers:
                waiting[self._add(prompts[number], max_tokens, request)] = number
            if not self._adapters.together:
                yield from self._written(waiting)
        yield from self._written(waiting)

    def stream(
        self, conversation: list[Message], max_tokens: int, adapter: str | None = None
    ) -> Iterator[str]:
        """As `Engine.stream`."""
        request = self._adapters.request(self._llm, adapter)
        name = self._add(self._encoder.prompt(conversation), max_tokens, request)
        written = 0
        for output in self._outputs({name}):
            whole = output.outputs[0].text
            yield whole[written:]
            written = len(whole)

    def log_probabilities(
        self,
        prompts: Sequence[list[int]],
        continuations: Sequence[list[int]],
        adapter: str | None = None,
    ) -> list[list[float]]:
        """As `Engine.log_probabilities`."""
        from vllm import SamplingParams

        pairs = joined(prompts, continuations, self._max_length)
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in pairs],
            # 0: of the prompt's own tokens, and no others. vLLM writes one token at least.
            SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False),
            use_tqdm=False,
            lora_request=self._adapters.request(self._llm, adapter),
        )
        found = []
        for output, ids, rest in zip(outputs, pairs, continuations, strict=True):
            places = range(len(ids) - len(rest), len(ids))
            found.append([output.prompt_logprobs[at][ids[at]].logprob for at in places])
        return found

    def _add(self, prompt: list[int], max_tokens: int, request: Any) -> str:
        """Queue a prompt; its name."""
        from vllm import SamplingParams

        self._asked += 1
        self._llm.llm_engine.add_request(
            str(self._asked),
            # Token ids, for vLLM would put a beginning of sequence before a text that has one.
            {"prompt_token_ids": prompt},
            # Not the model's own generation settings, which need not know its end-of-turn token.
            SamplingParams(
                temperature=0.0, max_tokens=max_tokens, stop_token_ids=[self._encoder.end_of_turn]
            ),
            lora_request=request,
        )
        return str(self._asked)

    def _outputs(self, waiting: Collection[str]) -> Iterator[Any]:
        """What is written, step by step, until nothing is queued any more."""
        engine = self._llm.llm_engine
        try:
            while engine.has_unfinished_requests():
                yield from engine.step()
        finally:
            # Of a listener who left: the next one must not get the rest.
            if engine.has_unfinished_requests():
                engine.abort_request(list(waiting))

    def _written(self, waiting: dict[str, int]) -> Iterator[tuple[int, Answer]]:
        """The answers to what waits; none waits any more."""
        for output in self._outputs(waiting):
            if output.finished:
                yield waiting.pop(output.request_id), _answer(output)


def _answer(output: Any) -> Answer:
    written = output.outputs[0]
    return Answer(
        text=written.text.strip(),
        finish_reason=written.finish_reason or "none",
        prompt_tokens=len(output.prompt_token_ids or ()),
        completion_tokens=len(written.token_ids),
    )
