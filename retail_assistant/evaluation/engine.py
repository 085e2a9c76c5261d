"""Answers from a model: vLLM where it runs, Hugging Face generate where it does not, one interface.

One engine holds the base model and any number of adapters. On CUDA vLLM reads a request's adapter
beside the base's weights, so that all models answer in the same batches. Its kernels for that fall
back to plain torch on a CPU and are about ten times slower than merged weights, so there the
weights of the running engine are swapped, one model after the other.

Decoding is greedy: the most probable token, whatever the model's own generation settings say. The
same requests give the same answers. In other company (a smaller rest of a killed run, say) sums
are rounded elsewhere in their last bits, which can only turn a token whose rival is as probable.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.rendering import Message

ONLY = "adapter"
"""What the adapter of an engine is called that has no other."""


@dataclass(frozen=True)
class Answer:
    """One generated answer; token counts are of the model's tokenizer."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """Something that answers conversations, greedily, with the base model or one of its adapters.

    An adapter is named as `open_engine` was told; None is the base model.
    """

    name: str

    def answer(
        self, conversations: Sequence[list[Message]], max_tokens: int, adapter: str | None = None
    ) -> list[Answer]:
        """One answer per conversation, in order."""
        written = dict(self.finished(conversations, max_tokens, [adapter] * len(conversations)))
        return [written[number] for number in range(len(conversations))]

    def finished(
        self,
        conversations: Sequence[list[Message]],
        max_tokens: int,
        adapters: Sequence[str | None],
    ) -> Iterator[tuple[int, Answer]]:
        """Each conversation's number and its answer by its adapter, as soon as it is written."""
        ...

    def stream(
        self, conversation: list[Message], max_tokens: int, adapter: str | None = None
    ) -> Iterator[str]:
        """One answer, piece by piece as it is written."""
        ...

    def log_probabilities(
        self,
        prompts: Sequence[list[int]],
        continuations: Sequence[list[int]],
        adapter: str | None = None,
    ) -> list[list[float]]:
        """For each pair the natural log-probability of every token of the continuation.

        Each token after the prompt and the continuation's tokens before it; of the softmax over
        the whole vocabulary at temperature 1, in float32. One list a pair, as long as its
        continuation, in order.

        Raises:
            ValueError: not as many continuations as prompts, an empty prompt, or a pair longer
                than the engine reads.
        """
        ...


@contextmanager
def open_engine(
    base: Path,
    adapters: Mapping[str, Path] | Path | None = None,
    *,
    style: PromptStyle,
    max_length: int,
    say: Callable[[str], None],
) -> Iterator[Engine]:
    """An engine for a base model and its adapters; freed at the end.

    Args:
        base: folder of the base model (safetensors).
        adapters: folders of PEFT adapters, by the names that requests call them; None: none. Of a
            single folder no request has to speak: that adapter answers, and never the base.
        style: how prompts were rendered for the adapters' training.
        max_length: longest prompt plus answer, in tokens.
        say: told which engine answers, and why it is not vLLM where it is not.

    Raises:
        AdapterError: an adapter is of a kind that the engine does not serve.
    """
    import torch
    from transformers import AutoTokenizer

    from retail_assistant.evaluation.transformers_engine import TransformersEngine
    from retail_assistant.evaluation.vllm_engine import open_vllm

    # Batched generation continues on the right, so the padding has to be on the left.
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left", trust_remote_code=False)
    encoder = Encoder(tokenizer, style)
    held = {ONLY: adapters} if isinstance(adapters, Path) else dict(adapters or {})
    try:
        engine: Engine = open_vllm(
            base, held, encoder, max_length, on_gpu=torch.cuda.is_available()
        )
    except ImportError as error:
        say(f"vLLM cannot be used here ({error}); Hugging Face generate answers, slower")
        engine = TransformersEngine(base, held, encoder, tokenizer, max_length)
    say(f"answering with {engine.name}")
    yield _OneAdapter(engine) if isinstance(adapters, Path) else engine


class _OneAdapter(Engine):
    """An engine whose requests are all for its only adapter."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name = engine, engine.name

    def finished(
        self,
        conversations: Sequence[list[Message]],
        max_tokens: int,
        adapters: Sequence[str | None],
    ) -> Iterator[tuple[int, Answer]]:
        return self._engine.finished(conversations, max_tokens, [one or ONLY for one in adapters])

    def stream(
        self, conversation: list[Message], max_tokens: int, adapter: str | None = None
    ) -> Iterator[str]:
        return self._engine.stream(conversation, max_tokens, adapter or ONLY)

    def log_probabilities(
        self,
        prompts: Sequence[list[int]],
        continuations: Sequence[list[int]],
        adapter: str | None = None,
    ) -> list[list[float]]:
        return self._engine.log_probabilities(prompts, continuations, adapter or ONLY)


def by_adapter(adapters: Sequence[str | None]) -> dict[str | None, list[int]]:
    """The numbers of the requests of each adapter, in the order in which they first ask for it."""
    groups: dict[str | None, list[int]] = {}
    for number, adapter in enumerate(adapters):
        groups.setdefault(adapter, []).append(number)
    return groups


def joined(
    prompts: Sequence[list[int]], continuations: Sequence[list[int]], max_length: int
) -> list[list[int]]:
    """The token ids of each prompt with its continuation.

    Raises:
        ValueError: as `Engine.log_probabilities`.
    """
    if len(prompts) != len(continuations):
        raise ValueError(f"{len(prompts)} prompts with {len(continuations)} continuations")
    pairs = [[*prompt, *rest] for prompt, rest in zip(prompts, continuations, strict=True)]
    for number, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
        if not prompt:
            raise ValueError(f"prompt {number} is empty; allowed: one token or more")
        if len(pair) >= max_length:
            raise ValueError(
                f"prompt {number} and its continuation have {len(pair)} tokens;"
                f" allowed: {max_length - 1}"
            )
    return pairs
