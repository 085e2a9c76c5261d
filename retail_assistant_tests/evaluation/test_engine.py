"""A prompt's tokens are read as they were trained on, and an answer stops where it ends.

The same of vLLM is in `test_adapters.py`, with an engine that is started once for all.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.evaluation.engine import open_engine
from retail_assistant_tests.evaluation.engines import (
    CONVERSATIONS,
    MAX_TOKENS,
    check_answers,
    check_own_log_probabilities,
)
from retail_assistant_tests.model_families import (
    gemma_tokenizer,
    llama_tokenizer,
    save_tiny_model,
)

# Small random weights repeat the prompt's last token for ever; these write something else.
TALKATIVE = {"tie_word_embeddings": False, "initializer_range": 0.5}


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
        check_answers(engine, Encoder(tokenizer, style))
        check_own_log_probabilities(engine, tmp_path)


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
