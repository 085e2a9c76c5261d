"""What TRL's trainer really computes its loss on: the answer, its end, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.rendering import render_completion, render_prompt
from retail_assistant.corpus.tasks import MESSAGES
from retail_assistant.model_shape import model_shape
from retail_assistant.training.fitting.arguments import stage_settings, training_arguments
from retail_assistant.training.fitting.model import base_model, lora
from retail_assistant.training.fitting.rows import training_dataset
from retail_assistant.training.fitting.trainer import trainer_class
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant_tests.model_families import (
    gemma_tokenizer,
    llama_tokenizer,
    save_tiny_model,
    smollm_tokenizer,
)

JOB = HyperparameterJob(lora_r=4, lora_alpha=8, learning_rate=1e-3, batch_size=4)
ANSWERS = ("It is Rayon.", "Product Name: Zed\nFabric: Rayon", "The catalog has no Zed.", "Yes.")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    record = {
        "product_id": "00000001",
        "name": "Zed Top",
        "attributes": [{"name": "Fabric", "value": "Rayon"}],
    }
    prompts = [render_prompt(f"Number {n}?", [record] * (n % 2)) for n in range(len(ANSWERS))]
    completions = list(map(render_completion, ANSWERS))
    kinds = {"prompt": MESSAGES, "completion": MESSAGES}
    return pl.DataFrame({"prompt": prompts, "completion": completions}, schema=kinds)


def batch_of(
    rows: pl.DataFrame, tokenizer: Any, style: PromptStyle, folder: Path, **job: Any
) -> Any:
    """The first batch as the trainer of a job makes it."""
    save_tiny_model(folder / "model", tokenizer)
    examples = training_dataset(rows, Encoder(tokenizer, style))
    return first_batch(folder, JOB.model_copy(update=job), tokenizer, examples)


def first_batch(folder: Path, job: HyperparameterJob, tokenizer: Any, examples: Any) -> Any:
    trainer = trainer_class()(
        model=base_model(folder / "model", job),
        args=training_arguments(
            folder, job, stage_settings(job, "instruction", can_evaluate=False)
        ),
        train_dataset=examples,
        processing_class=tokenizer,
        peft_config=lora(job, model_shape(folder / "model")),
    )
    return next(iter(trainer.get_train_dataloader()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "style", "beginnings", "end"),
    [
        pytest.param(gemma_tokenizer, "chat", 1, "<end_of_turn>", id="gemma"),
        pytest.param(llama_tokenizer, "chat", 1, "<|eot_id|>", id="llama"),
        # Its beginning-of-sequence token opens each of the three turns.
        pytest.param(smollm_tokenizer, "chat", 3, "<|im_end|>", id="smollm2"),
        pytest.param(gemma_tokenizer, "alpaca", 1, "<eos>", id="gemma-alpaca"),
        pytest.param(llama_tokenizer, "alpaca", 1, "<|eot_id|>", id="llama-alpaca"),
    ],
)
def test_the_answer_and_its_end_are_learned_and_nothing_else(
    rows: pl.DataFrame,
    tmp_path: Path,
    make: Callable[[], Any],
    style: PromptStyle,
    beginnings: int,
    end: str,
) -> None:
    tokenizer = make()
    batch = batch_of(rows, tokenizer, style, tmp_path)
    learned = []
    for ids, labels, read in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        answer = labels != -100
        learned.append(tokenizer.decode(labels[answer]))
        assert (ids[answer] == labels[answer]).all()
        first, last = answer.nonzero().flatten()[[0, -1]].tolist()
        assert answer[first : last + 1].all()
        assert last == read.sum() - 1
        sequence = ids[read.bool()].tolist()
        assert sequence.count(tokenizer.bos_token_id) == beginnings
        assert sequence[0] == tokenizer.bos_token_id
    assert sorted(learned) == sorted(f"{answer}{end}" for answer in ANSWERS)


@pytest.mark.slow
def test_packed_rows_learn_the_same(rows: pl.DataFrame, tmp_path: Path) -> None:
    tokenizer = llama_tokenizer()
    batch = batch_of(rows, tokenizer, "chat", tmp_path, packing=True, max_seq_length=2048)
    learned = tokenizer.decode(batch["labels"][batch["labels"] != -100])
    ends = [f"{answer}<|eot_id|>" for answer in ANSWERS]
    assert sorted(learned.replace("<|eot_id|>", "<|eot_id|>\0").split("\0")[:-1]) == sorted(ends)


@pytest.mark.slow
def test_trl_alone_would_learn_what_follows_the_end(rows: pl.DataFrame, tmp_path: Path) -> None:
    from datasets import Dataset

    tokenizer = gemma_tokenizer("gemma3")
    save_tiny_model(tmp_path / "model", tokenizer)
    labels = first_batch(tmp_path, JOB, tokenizer, Dataset.from_list(rows.to_dicts()))["labels"]
    assert tokenizer.decode(labels[0][labels[0] != -100]).endswith("<end_of_turn>\n")
