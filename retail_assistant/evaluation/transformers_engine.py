"""Hugging Face Transformers with PEFT: slower than vLLM, and what vLLM is compared with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.rendering import Message
from retail_assistant.evaluation.adapter_weights import adapter_config
from retail_assistant.evaluation.engine import Answer, Engine, by_adapter, joined


class AdaptedModel:
    """A base model in memory with its adapters, as PEFT applies them; used by one thread."""

    def __init__(self, base: Path, adapters: Mapping[str, Path]) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # As vLLM computes (see `vllm_options`): what they are compared for is not the rounding.
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        loaded = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, trust_remote_code=False)
        # Names of jobs hold what PEFT's modules may not be called.
        self._names = {name: f"adapter{number}" for number, name in enumerate(adapters)}
        for name, folder in adapters.items():
            adapter_config(folder)
            if isinstance(loaded, PeftModel):
                loaded.load_adapter(folder, self._names[name])
            else:
                loaded = PeftModel.from_pretrained(loaded, folder, self._names[name])
        self._model = loaded.to(self.device).eval()

    def using(self, adapter: str | None) -> AbstractContextManager[Any]:
        """In this context `model` is the base with an adapter."""
        if adapter is not None:
            self._model.set_adapter(self._names[adapter])
        elif self._names:
            without: AbstractContextManager[Any] = self._model.disable_adapter()
            return without
        return nullcontext()

    @property
    def model(self) -> Any:
        """The model, with the adapter that `using` chose."""
        return self._model

    def log_probabilities(self, ids: list[int], last: int, adapter: str | None) -> list[float]:
        """Of the last so many tokens of a text, each after those before it."""
        import torch

        if not last:
            return []
        with torch.inference_mode(), self.using(adapter):
            # The logits after a token are about the next one; the last one's are about no token.
            tokens = torch.tensor([ids], device=self.device)
            logits = self._model(input_ids=tokens, logits_to_keep=last + 1).logits[0, :-1]
            scores = logits.float().log_softmax(-1)
            found: list[float] = scores.gather(-1, tokens[0, -last:, None])[:, 0].tolist()
            return found


class TransformersEngine(Engine):
    """An `Engine` on Hugging Face generate."""

    name = "hugging face generate"
    batch = 16

    def __init__(
        self,
        base: Path,
        adapters: Mapping[str, Path],
        encoder: Encoder,
        tokenizer: Any,
        max_length: int,
    ) -> None:
        self._adapted = AdaptedModel(base, adapters)
        self._encoder, self._tokenizer, self._max_length = encoder, tokenizer, max_length
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._stops = {encoder.end_of_turn, tokenizer.eos_token_id}

    def finished(
        self,
        conversations: Sequence[list[Message]],
        max_tokens: int,
        adapters: Sequence[str | None],
    ) -> Iterator[tuple[int, Answer]]:
        """As `Engine.finished`: in batches of one adapter each."""
        for adapter, numbers in by_adapter(adapters).items():
            for start in range(0, len(numbers), self.batch):
                some = numbers[start : start + self.batch]
                batch = [conversations[number] for number in some]
                yield from zip(some, self._answer_batch(batch, max_tokens, adapter), strict=True)

    def stream(
        self, conversation: list[Message], max_tokens: int, adapter: str | None = None
    ) -> Iterator[str]:
        """As `Engine.stream`."""
        from threading import Thread

        from transformers import TextIteratorStreamer

        pieces = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {**self._inputs([conversation]), **self._options(max_tokens), "streamer": pieces}
        with self._adapted.using(adapter):
            writer = Thread(target=self._adapted.model.generate, kwargs=options)
            writer.start()
            yield from pieces
            writer.join()

    def log_probabilities(
        self,
        prompts: Sequence[list[int]],
        continuations: Sequence[list[int]],
        adapter: str | None = None,
    ) -> list[list[float]]:
        """As `Engine.log_probabilities`."""
        pairs = joined(prompts, continuations, self._max_length)
        return [
            self._adapted.log_probabilities(ids, len(rest), adapter)
            for ids, rest in zip(pairs, continuations, strict=True)
        ]

    def _inputs(self, conversations: Sequence[list[Message]]) -> Any:
        ids = list(self._encoder.prompts(conversations))
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return padded.to(self._adapted.device)

    def _options(self, max_tokens: int) -> dict[str, Any]:
        return {
            "do_sample": False,
            "max_new_tokens": max_tokens,
            "eos_token_id": sorted(self._stops),
            "pad_token_id": self._tokenizer.pad_token_id,
        }

    def _answer_batch(
        self, batch: Sequence[list[Message]], max_tokens: int, adapter: str | None
    ) -> list[Answer]:
        inputs = self._inputs(batch)
        width = inputs["input_ids"].shape[1]
        with self._adapted.using(adapter):
            generated = self._adapted.model.generate(**inputs, **self._options(max_tokens))
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
