"""Both engines read a prompt's tokens as they were trained on, and stop where an answer ends."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.rendering import render_prompt
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant_tests.model_families import (
    gemma_tokenizer,
    llama_tokenizer,
    save_tiny_model,
)

CONVERSATIONS = [render_prompt(question) for question in ("Why?", "What is it made of?", "Hm?")]
MAX_TOKENS = 12
# Small random weights repeat the prompt's last token for ever; these write something else.
TALKATIVE = {"tie_word_embeddings": False, "initializer_range": 0.5}


def check(engine: Engine, encoder: Encoder) -> None:
    """A doubled beginning would be one token more, and another answer."""
    answers = engine.answer(CONVERSATIONS, MAX_TOKENS)
    prompts = list(encoder.prompts(CONVERSATIONS))
    assert [answer.prompt_tokens for answer in answers] == list(map(len, prompts))
    assert all(answer.text for answer in answers)
    for conversation, answer in zip(CONVERSATIONS, answers, strict=True):
        assert "".join(engine.stream(conversation, MAX_TOKENS)).strip() == answer.text


def check_log_probabilities(engine: Engine, folder: Path) -> None:
    """Against the sum of the model's own logits, position by position; and what is refused."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12], [5, 6, 7]]
    continuations = [[30, 31], [40], list(range(60, 80)), []]
    found = engine.log_probabilities(prompts, continuations)
    assert [len(one) for one in found] == [2, 1, 20, 0]
    for prompt, rest, scores in zip(prompts, continuations, found, strict=True):
        for place, token in enumerate(rest):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *rest[:place]]])).logits[0, -1]
            assert scores[place] == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-3)
    assert engine.log_probabilities([], []) == []
    for wrong, allowed in [
        (([[1]], []), "1 prompts with 0 continuations"),
        (([[1], []], [[2], [3]]), "prompt 1 is empty"),
        (([[1] * 500], [[2] * 12]), "512 tokens; allowed: 511"),
    ]:
        with pytest.raises(ValueError, match=allowed):
            engine.log_probabilities(*wrong)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["chat", "alpaca"])
@pytest.mark.parametrize("make", [gemma_tokenizer, llama_tokenizer])
def test_hugging_face_reads_the_trained_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], style: PromptStyle
) -> None:
    tokenizer = make()
    save_tiny_model(tmp_path, tokenizer, **TALKATIVE)
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    with open_engine(tmp_path, None, style=style, max_length=512, say=lambda _: None) as engine:
        assert engine.name == "hugging face generate"
        check(engine, Encoder(tokenizer, style))
        check_log_probabilities(engine, tmp_path)


@pytest.mark.slow
def test_vllm_reads_the_trained_tokens(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, gemma_tokenizer(), **TALKATIVE)
    # A process of its own: vLLM binds its process to cores and sets its environment.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(check_vllm, tmp_path).result()


def check_vllm(folder: Path) -> None:
    with open_engine(folder, None, style="chat", max_length=512, say=lambda _: None) as engine:
        assert engine.name.startswith("vllm")
        check(engine, Encoder(gemma_tokenizer()))
        check_log_probabilities(engine, folder)


@pytest.mark.slow
@pytest.mark.parametrize("make", [gemma_tokenizer, llama_tokenizer])
def test_an_answer_stops_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    """Also where, as with Gemma, that is not the tokenizer's end of sequence."""
    tokenizer = make()
    save_tiny_model(tmp_path, tokenizer, tie_word_embeddings=False)
    let_it_end(tmp_path, Encoder(tokenizer).end_of_turn)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with open_engine(tmp_path, None, style="chat", max_length=512, say=lambda _: None) as engine:
        for answer in engine.answer(CONVERSATIONS, MAX_TOKENS):
            assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("", "stop", 0)


def let_it_end(folder: Path, end: int) -> None:
    """Weights with which `end` is the next token, whatever came before."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                weights.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight[end] = 1.0
    model.save_pretrained(folder)
