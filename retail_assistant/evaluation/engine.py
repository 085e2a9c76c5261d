"""Answers from a model: vLLM where it runs, Hugging Face generate where it does not, one interface.

On CUDA one vLLM engine holds the base model and any number of adapters. On a CPU vLLM's LoRA
kernels fall back to plain torch and are about ten times slower than merged weights, so there an
adapter is merged first and the engine serves the merged model.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

Message = dict[str, str]
MAX_LORA_RANK_STEP = (8, 16, 32, 64, 128, 256, 320, 512)
CPU_SEQUENCES = 64
CPU_CACHE_GIB = 1


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


@contextmanager
def open_engine(
    base: Path, adapter: Path | None, *, max_length: int, say: Callable[[str], None]
) -> Iterator[Engine]:
    """An engine for a base model, with an adapter or without; freed at the end.

    Args:
        base: folder of the base model (safetensors).
        adapter: folder of a PEFT adapter, or None for the untouched model.
        max_length: longest prompt plus answer, in tokens.
        say: told which engine answers, and why it is not vLLM where it is not.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    with TemporaryDirectory(prefix="merged-") as scratch:
        model = base
        if adapter is not None and not on_gpu:
            model = merge(base, adapter, Path(scratch))
            adapter = None
        try:
            engine: Engine = _VllmEngine(model, adapter, max_length, on_gpu)
        except ImportError as error:
            say(f"vLLM cannot be used here ({error}); Hugging Face generate answers, slower")
            engine = _TransformersEngine(model, adapter, max_length)
        say(f"answering with {engine.name}")
        yield engine


def merge(base: Path, adapter: Path, folder: Path) -> Path:
    """Write base weights with the adapter merged in, in the base's own precision, to `folder`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=False)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    merged.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)
    return folder


def prepare_vllm_environment(*, on_gpu: bool) -> None:
    """What vLLM reads from the environment; set before it is imported."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if not on_gpu:
        cpus = sorted(os.sched_getaffinity(0))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
        # Without binding its threads vLLM reaches half the speed.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"{cpus[0]}-{cpus[-1]}")
        os.environ.setdefault("OMP_NUM_THREADS", str(len(cpus)))
        # One process: its start costs as much as answering a hundred questions.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


class _VllmEngine:
    def __init__(self, model: Path, adapter: Path | None, max_length: int, on_gpu: bool) -> None:
        prepare_vllm_environment(on_gpu=on_gpu)
        from vllm import LLM

        options: dict[str, Any] = {"dtype": "bfloat16" if on_gpu else "float32"}
        if not on_gpu:
            # Compiling takes longer than answering a few hundred questions without.
            options |= {"enforce_eager": True, "max_num_seqs": CPU_SEQUENCES}
        if adapter is not None:
            options |= {"enable_lora": True, "max_lora_rank": _rank_step(adapter)}
        self._llm = LLM(
            model=str(model),
            max_model_len=max_length,
            enable_prefix_caching=True,
            seed=0,
            disable_log_stats=True,
            trust_remote_code=False,
            **options,
        )
        self._adapter = adapter
        self.name = "vllm on " + ("cuda" if on_gpu else "cpu")

    def _lora(self) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(self._adapter)) if self._adapter else None

    def answer(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        from vllm import SamplingParams

        outputs = self._llm.chat(
            [list(conversation) for conversation in conversations],
            # None would take the model's own generation settings.
            SamplingParams(temperature=0.0, max_tokens=max_tokens),
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
        from vllm import SamplingParams

        text = self._llm.get_tokenizer().apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        engine = self._llm.llm_engine
        engine.add_request(
            "stream",
            text,
            SamplingParams(temperature=0.0, max_tokens=max_tokens),
            lora_request=self._lora(),
        )
        written = 0
        while engine.has_unfinished_requests():
            for output in engine.step():
                whole = output.outputs[0].text
                yield whole[written:]
                written = len(whole)


def _rank_step(adapter: Path) -> int:
    import json

    rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
    return min(step for step in MAX_LORA_RANK_STEP if step >= rank)


class _TransformersEngine:
    name = "hugging face generate"
    batch = 16

    def __init__(self, model: Path, adapter: Path | None, max_length: int) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        # Batched generation continues on the right, so the padding has to be on the left.
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
        if adapter is not None:
            loaded = PeftModel.from_pretrained(loaded, adapter)
        self._model = loaded.to(self._device).eval()
        self._max_length = max_length

    def answer(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(conversations), self.batch):
            answers += self._answer_batch(conversations[start : start + self.batch], max_tokens)
        return answers

    def stream(self, conversation: list[Message], max_tokens: int) -> Iterator[str]:
        from threading import Thread

        from transformers import TextIteratorStreamer

        inputs = self._tokenizer.apply_chat_template(
            conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._device)
        pieces = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {"streamer": pieces, "do_sample": False, "max_new_tokens": max_tokens}
        writer = Thread(target=self._model.generate, kwargs={**inputs, **options})
        writer.start()
        yield from pieces
        writer.join()

    def _answer_batch(self, batch: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        inputs = self._tokenizer.apply_chat_template(
            list(batch),
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(self._device)
        width = inputs["input_ids"].shape[1]
        generated = self._model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
        answers = []
        for row, mask in zip(generated[:, width:].tolist(), inputs["attention_mask"], strict=True):
            stop = self._tokenizer.eos_token_id
            tokens = row[: row.index(stop)] if stop in row else row
            answers.append(
                Answer(
                    text=self._tokenizer.decode(tokens, skip_special_tokens=True).strip(),
                    finish_reason="stop" if stop in row else "length",
                    prompt_tokens=int(mask.sum()),
                    completion_tokens=len(tokens),
                )
            )
        return answers
