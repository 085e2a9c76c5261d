"""Answers from a model: vLLM where it runs, Hugging Face generate where it does not, one interface.

On CUDA one vLLM engine holds the base model and any number of adapters. On a CPU vLLM's LoRA
kernels fall back to plain torch and are about ten times slower than merged weights, so there an
adapter is merged first and the engine serves the merged model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.rendering import Message
from retail_assistant.training.jobs import served_rank
from retail_assistant.training.merge import merge
from retail_assistant.vllm_options import vllm_options


@dataclass(frozen=True)
class Answer:
    """One generated answer; token counts are of the model's tokenizer."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """Something that answers conversations, greedily."""

    name: str

    def answer(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        """One answer per conversation, in order."""
        ...

    def stream(self, conversation: list[Message], max_tokens: int) -> Iterator[str]:
        """One answer, piece by piece as it is written."""
        ...

    def log_probabilities(
        self, prompts: Sequence[list[int]], continuations: Sequence[list[int]]
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
    adapter: Path | None,
    *,
    style: PromptStyle,
    max_length: int,
    say: Callable[[str], None],
) -> Iterator[Engine]:
    """An engine for a base model, with an adapter or without; freed at the end.

    Args:
        base: folder of the base model (safetensors).
        adapter: folder of a PEFT adapter, or None for the untouched model.
        style: how prompts were rendered for the adapter's training.
        max_length: longest prompt plus answer, in tokens.
        say: told which engine answers, and why it is not vLLM where it is not.
    """
    import torch
    from transformers import AutoTokenizer

    on_gpu = torch.cuda.is_available()
    # Batched generation continues on the right, so the padding has to be on the left.
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left", trust_remote_code=False)
    encoder = Encoder(tokenizer, style)
    with TemporaryDirectory(prefix="merged-") as scratch:
        model = base
        if adapter is not None and not on_gpu:
            model = merge(base, adapter, Path(scratch))
            adapter = None
        try:
            engine: Engine = _VllmEngine(model, adapter, encoder, max_length, on_gpu)
        except ImportError as error:
            say(f"vLLM cannot be used here ({error}); Hugging Face generate answers, slower")
            engine = _TransformersEngine(model, adapter, encoder, tokenizer, max_length)
        say(f"answering with {engine.name}")
        yield engine


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


class _VllmEngine:
    def __init__(
        self, model: Path, adapter: Path | None, encoder: Encoder, max_length: int, on_gpu: bool
    ) -> None:
        options = vllm_options(model, max_length, on_gpu=on_gpu)
        from vllm import LLM

        if adapter is not None:
            options |= {"enable_lora": True, "max_lora_rank": _rank_step(adapter)}
        self._llm = LLM(**options)
        self._adapter, self._encoder, self._max_length = adapter, encoder, max_length
        self.name = "vllm on " + ("cuda" if on_gpu else "cpu")

    def _lora(self) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(self._adapter)) if self._adapter else None

    def _sampling(self, max_tokens: int) -> Any:
        from vllm import SamplingParams

        # Not the model's own generation settings, which need not know its end-of-turn token either.
        return SamplingParams(
            temperature=0.0, max_tokens=max_tokens, stop_token_ids=[self._encoder.end_of_turn]
        )

    def answer(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        outputs = self._llm.generate(
            # Token ids, for vLLM would put a beginning of sequence before a text that has one.
            [{"prompt_token_ids": ids} for ids in self._encoder.prompts(conversations)],
            self._sampling(max_tokens),
            use_tqdm=False,
            lora_request=self._lora(),
        )
        return [
            Answer(
                text=output.outputs[0].text.strip(),
                finish_reason=output.outputs[0].finish_reason or "none",
                prompt_tokens=len(output.prompt_token_ids or ()),
                completion_tokens=len(output.outputs[0].token_ids),
            )
            for output in outputs
        ]

    def stream(self, conversation: list[Message], max_tokens: int) -> Iterator[str]:
        engine = self._llm.llm_engine
        engine.add_request(
            "stream",
            {"prompt_token_ids": self._encoder.prompt(conversation)},
            self._sampling(max_tokens),
            lora_request=self._lora(),
        )
        written = 0
        while engine.has_unfinished_requests():
            for output in engine.step():
                whole = output.outputs[0].text
                yield whole[written:]
                written = len(whole)

    def log_probabilities(
        self, prompts: Sequence[list[int]], continuations: Sequence[list[int]]
    ) -> list[list[float]]:
        from vllm import SamplingParams

        pairs = joined(prompts, continuations, self._max_length)
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in pairs],
            # 0: of the prompt's own tokens, and no others. vLLM writes one token at least.
            SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False),
            use_tqdm=False,
            lora_request=self._lora(),
        )
        found = []
        for output, ids, rest in zip(outputs, pairs, continuations, strict=True):
            places = range(len(ids) - len(rest), len(ids))
            found.append([output.prompt_logprobs[at][ids[at]].logprob for at in places])
        return found


def _rank_step(adapter: Path) -> int:
    import json

    rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
    return served_rank(rank)


class _TransformersEngine:
    name = "hugging face generate"
    batch = 16

    def __init__(
        self,
        model: Path,
        adapter: Path | None,
        encoder: Encoder,
        tokenizer: Any,
        max_length: int,
    ) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._encoder, self._tokenizer, self._max_length = encoder, tokenizer, max_length
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto", trust_remote_code=False)
        if adapter is not None:
            loaded = PeftModel.from_pretrained(loaded, adapter)
        self._model = loaded.to(self._device).eval()
        self._stops = {encoder.end_of_turn, tokenizer.eos_token_id}

    def answer(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(conversations), self.batch):
            answers += self._answer_batch(conversations[start : start + self.batch], max_tokens)
        return answers

    def stream(self, conversation: list[Message], max_tokens: int) -> Iterator[str]:
        from threading import Thread

        from transformers import TextIteratorStreamer

        pieces = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {**self._inputs([conversation]), **self._options(max_tokens), "streamer": pieces}
        writer = Thread(target=self._model.generate, kwargs=options)
        writer.start()
        yield from pieces
        writer.join()

    def log_probabilities(
        self, prompts: Sequence[list[int]], continuations: Sequence[list[int]]
    ) -> list[list[float]]:
        pairs = joined(prompts, continuations, self._max_length)
        return [
            self._log_probabilities(ids, len(rest))
            for ids, rest in zip(pairs, continuations, strict=True)
        ]

    def _log_probabilities(self, ids: list[int], last: int) -> list[float]:
        """Of the last so many tokens."""
        import torch

        if not last:
            return []
        with torch.inference_mode():
            # The logits after a token are about the next one; the last one's are about no token.
            tokens = torch.tensor([ids], device=self._device)
            logits = self._model(tokens, logits_to_keep=last + 1).logits[0, :-1]
            scores = logits.float().log_softmax(-1)
            return scores.gather(-1, tokens[0, -last:, None])[:, 0].tolist()

    def _inputs(self, conversations: Sequence[list[Message]]) -> Any:
        ids = list(self._encoder.prompts(conversations))
        return self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)

    def _options(self, max_tokens: int) -> dict[str, Any]:
        return {
            "do_sample": False,
            "max_new_tokens": max_tokens,
            "eos_token_id": sorted(self._stops),
            "pad_token_id": self._tokenizer.pad_token_id,
        }

    def _answer_batch(self, batch: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        inputs = self._inputs(batch)
        width = inputs["input_ids"].shape[1]
        generated = self._model.generate(**inputs, **self._options(max_tokens))
        answers = []
        for row, mask in zip(generated[:, width:].tolist(), inputs["attention_mask"], strict=True):
            stop = next((place for place, one in enumerate(row) if one in self._stops), None)
            tokens = row[:stop]
            answers.append(
                Answer(
                    text=self._tokenizer.decode(tokens, skip_special_tokens=True).strip(),
                    finish_reason="length" if stop is None else "stop",
                    prompt_tokens=int(mask.sum()),
                    completion_tokens=len(tokens),
                )
            )
        return answers
