"""How likely labels are after a text: token by token, as a plain forward pass has it."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.evaluation.classification.labels import (
    Labels,
    label_mass,
    label_scores,
    label_tokens,
    labels_of,
    log_odds,
    probabilities,
)
from retail_assistant.evaluation.engine import open_engine
from retail_assistant_tests.evaluation.classification.planted import corpus
from retail_assistant_tests.model_families import llama_tokenizer, save_tiny_model

TEXTS = ["Soft and warm.", "It shrank; I sent it back.", "Neat"]
LABELS = Labels("negative", "positive")


def test_labels_are_those_of_the_corpus() -> None:
    assert labels_of(corpus([True, False], [True, False], {})) == LABELS
    with pytest.raises(ValueError, match="allowed: one negative, one positive"):
        labels_of(corpus([True, True], [True, True], {}))


def test_a_label_that_begins_the_other_has_its_end_too() -> None:
    tokenizer = llama_tokenizer()
    encoder = Encoder(tokenizer, "plain")
    (plain,) = label_tokens(["Neat"], Labels("bad", "good"), encoder)
    (nested,) = label_tokens(["Neat"], Labels("good", "good !"), encoder)
    end = tokenizer.eos_token_id
    assert end not in [*plain.negative, *plain.positive]
    assert nested.negative[-1] == nested.positive[-1] == end
    assert tokenizer.decode(plain.positive).strip() == "good"
    assert plain.prompt == nested.prompt


@pytest.mark.slow
def test_scores_are_those_of_a_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = llama_tokenizer()
    save_tiny_model(tmp_path, tokenizer, tie_word_embeddings=False, initializer_range=0.5)
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    encoder = Encoder(tokenizer, "plain")
    tokens = label_tokens(TEXTS, LABELS, encoder)
    with open_engine(tmp_path, None, style="plain", max_length=128, say=lambda _: None) as engine:
        scores = label_scores(engine, tokens)
    expected = [
        [forward(tmp_path, one.prompt, label) for label in (one.negative, one.positive)]
        for one in tokens
    ]
    np.testing.assert_allclose(scores.to_numpy(), expected, atol=1e-4)
    chance = probabilities(log_odds(scores))
    by_hand = [math.exp(p) / (math.exp(n) + math.exp(p)) for n, p in expected]
    np.testing.assert_allclose(chance, by_hand, atol=1e-4)
    assert scores.schema == pl.Schema({"log_negative": pl.Float64, "log_positive": pl.Float64})
    assert ((label_mass(scores) > 0) & (label_mass(scores) < 1)).all()
    assert len(set(log_odds(scores).round(3))) == len(TEXTS)


def forward(model: Path, prompt: Sequence[int], label: Sequence[int]) -> float:
    """The log-probability of a label, one token after the other."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(model).eval()
    read, total = list(prompt), 0.0
    with torch.inference_mode():
        for token in label:
            total += float(loaded(torch.tensor([read])).logits[0, -1].log_softmax(-1)[token])
            read.append(token)
    return total
