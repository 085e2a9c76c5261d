"""Rows joined without padding are read as if each stood alone; other attention is left alone."""

from pathlib import Path
from typing import Any

import pytest

from retail_assistant.training.fitting.joined_rows import (
    ROW_BY_ROW,
    attends_row_by_row,
    joined,
)
from retail_assistant.training.fitting.rows import IGNORED
from retail_assistant_tests.training.trainings import one_thread


def padded() -> dict[str, Any]:
    """Rows of three, one and two tokens."""
    import torch

    return {
        "input_ids": torch.tensor([[5, 6, 7], [8, 0, 0], [9, 10, 0]]),
        "labels": torch.tensor([[IGNORED, 6, 7], [8, IGNORED, IGNORED], [9, 10, IGNORED]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]]),
    }


def test_padding_is_left_out_and_no_row_teaches_the_next() -> None:
    found = joined(padded())
    assert found["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert found["labels"].tolist() == [[IGNORED, 6, 7, IGNORED, IGNORED, 10]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 4, 6]


def test_what_is_joined_already_stays() -> None:
    once = joined(padded())
    again = joined({name: once[name] for name in ("input_ids", "labels", "position_ids")})
    for name, value in once.items():
        assert again[name].tolist() == value.tolist()


@pytest.mark.slow
def test_each_row_is_read_as_if_it_stood_alone(tiny_model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    batch = padded()
    with one_thread(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
        masked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        before = model(**masked).logits
        alone = [
            model(input_ids=ids[:length].unsqueeze(0)).logits[0]
            for ids, length in zip(batch["input_ids"], (3, 1, 2), strict=True)
        ]
        assert attends_row_by_row(model)
        rows = joined(batch)
        del rows["labels"]
        torch.testing.assert_close(model(**rows).logits[0], torch.cat(alone), atol=1e-5, rtol=1e-5)
        # Padded batches, as they are generated from, are read as before.
        torch.testing.assert_close(model(**masked).logits, before, atol=0, rtol=0)


@pytest.mark.slow
def test_other_attention_is_left_alone(tiny_model_folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, MistralConfig

    size = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    window = MistralConfig(**size, sliding_window=4)
    whole = MistralConfig(**size, sliding_window=None)
    eager = AutoConfig.from_pretrained(tiny_model_folder)
    found = [
        AutoModelForCausalLM.from_config(config, attn_implementation=kind)
        for config, kind in ((window, "sdpa"), (eager, "eager"), (whole, "sdpa"))
    ]
    assert [attends_row_by_row(model) for model in found] == [False, False, True]
    assert [model.config._attn_implementation for model in found] == ["sdpa", "eager", ROW_BY_ROW]
