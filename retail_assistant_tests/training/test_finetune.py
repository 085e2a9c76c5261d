"""Fine-tuning: which rows are learned from, a loss equal to TRL's, real steps on a tiny model."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.splits import split_products
from retail_assistant.corpus.tasks import MESSAGES, RenderingPolicy, product_descriptions
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload
from retail_assistant.storage import file_sha256
from retail_assistant.training.finetune import (
    COMPLETE_MARK,
    _arguments,
    _lora,
    _model,
    _trainer_class,
    last_complete_checkpoint,
    split_by_length,
    train,
    training_dataset,
    training_rows,
)
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.tracking import Tracker
from retail_assistant_tests.catalogs import assortment_of

JOB = HyperparameterJob(lora_r=4, lora_alpha=8, learning_rate=1e-3, batch_size=2)
COLOURS = ("red", "blue", "green", "black", "white", "pink")


def turn(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    """Ten rows to learn from, two to validate on, one to be asked; later ids are longer."""
    subsets = ["train"] * 10 + ["validation"] * 2 + ["recall"]
    rows = [
        {
            "dialogue_id": f"d{number:02d}",
            "subset": subset,
            "prompt": turn("user", f"What colour is kurta {number}?"),
            "grounded_prompt": turn(
                "user", f"name: kurta {number}\n" * number + "What colour is it?"
            ),
            "completion": turn("assistant", f"It is {COLOURS[number % 6]}. " * (1 + number % 3)),
            "prompt_tokens": 20,
            "grounded_prompt_tokens": 20 + 10 * number,
            "completion_tokens": 5,
            "prompt_style": "chat",
        }
        for number, subset in enumerate(subsets)
    ]
    kinds = {
        "prompt": MESSAGES,
        "grounded_prompt": MESSAGES,
        "completion": MESSAGES,
        "prompt_tokens": pl.UInt32,
        "grounded_prompt_tokens": pl.UInt32,
        "completion_tokens": pl.UInt32,
    }
    return pl.DataFrame(rows, schema_overrides=kinds).sample(fraction=1, shuffle=True, seed=3)


def test_rows_of_a_subset_come_in_a_fixed_order(corpus: pl.DataFrame) -> None:
    rows = training_rows(corpus, JOB, "train")
    assert rows["row_id"].to_list() == [f"d{number:02d}" for number in range(10)]
    assert rows.columns == ["row_id", "prompt", "completion", "tokens"]
    assert rows["tokens"].to_list() == [25] * 10
    assert training_rows(corpus.reverse(), JOB, "train").equals(rows)


def test_grounding_chooses_the_prompts_and_their_lengths(corpus: pl.DataFrame) -> None:
    grounded = JOB.model_copy(update={"grounding": "retrieved"})
    rows = training_rows(corpus, grounded, "train")
    assert rows["tokens"].to_list() == [25 + 10 * number for number in range(10)]
    expected = corpus.filter(subset="train").sort("dialogue_id")["grounded_prompt"]
    assert rows["prompt"].to_list() == expected.to_list()


@pytest.mark.parametrize(("fraction", "rows"), [(1.0, 10), (0.5, 5), (0.25, 3), (0.001, 1)])
def test_a_fraction_of_the_data_is_a_prefix(
    corpus: pl.DataFrame, fraction: float, rows: int
) -> None:
    job = JOB.model_copy(update={"data_fraction": fraction})
    kept = training_rows(corpus, job, "train")
    assert kept.equals(training_rows(corpus, JOB, "train").head(rows))
    assert kept.height == rows
    assert training_rows(corpus, job, "validation").height == 2


def test_an_empty_subset_stays_empty(corpus: pl.DataFrame) -> None:
    assert training_rows(corpus.clear(), JOB, "train").is_empty()


def test_rows_are_split_at_the_length_limit(corpus: pl.DataFrame) -> None:
    rows = training_rows(corpus, JOB.model_copy(update={"grounding": "retrieved"}), "train")
    fit, too_long = split_by_length(rows, 65)
    assert fit["tokens"].to_list() == [25, 35, 45, 55, 65]
    assert too_long["tokens"].to_list() == [75, 85, 95, 105, 115]
    assert pl.concat([fit, too_long]).equals(rows)


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "never") is None
    for step, complete in ((5, True), (10, True), (15, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / COMPLETE_MARK).touch()
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def trainer_of(corpus: pl.DataFrame, model: Path, folder: Path, **changes: Any) -> Any:
    from transformers import AutoTokenizer, set_seed

    job = JOB.model_copy(update=changes)
    set_seed(job.seed)
    rows = training_rows(corpus, job, "train")
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = _trainer_class()(
        model=_model(model, job),
        args=_arguments(folder, job, evaluate=False),
        train_dataset=training_dataset(rows, Encoder(tokenizer)),
        processing_class=tokenizer,
        peft_config=_lora(job),
    )
    # Without this the adapter's second factor is zero, and so is half of the gradient.
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return trainer


def loss_and_gradients(trainer: Any, compute_loss: Any, count: Any) -> tuple[float, dict[str, Any]]:
    trainer.model.zero_grad()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    return loss.item(), gradients


@pytest.mark.slow
@pytest.mark.parametrize("count", [None, 37])
@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_and_its_gradients_are_those_of_trl(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, count: int | None, packing: bool
) -> None:
    import torch
    from trl import SFTTrainer

    trainer = trainer_of(
        corpus, tiny_model_folder, tmp_path, grounding="retrieved", packing=packing, batch_size=4
    )
    trainer.model.train()
    items = None if count is None else torch.tensor(count)
    theirs = SFTTrainer.compute_loss.__get__(trainer)
    loss, gradients = loss_and_gradients(trainer, trainer.compute_loss, items)
    their_loss, their_gradients = loss_and_gradients(trainer, theirs, items)
    assert loss == pytest.approx(their_loss, abs=1e-4)
    assert gradients.keys() == their_gradients.keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_only_answers_and_their_ends_are_learned(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(corpus, tiny_model_folder, tmp_path, grounding="retrieved")
    tokenizer = trainer.processing_class
    for batch in trainer.get_train_dataloader():
        for labels, ids in zip(batch["labels"], batch["input_ids"], strict=True):
            learned = tokenizer.decode(labels[labels != -100])
            assert learned.startswith("It is ")
            assert learned.endswith("<|im_end|>")
            assert learned in tokenizer.decode(ids)


def workload_of(corpus: pl.DataFrame, model: Path, root: Path, job: HyperparameterJob) -> Workload:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "corpus.parquet"
    corpus.write_parquet(path)
    spec = LaunchSpec(
        name="adapter",
        module="retail_assistant.training.finetune",
        config={"hyperparameters": job.model_dump(mode="json")},
        inputs={"prompt_corpus": file_sha256(path), "base_model": "tiny"},
        paths={"prompt_corpus": path, "base_model": model},
        code_version="1",
        root=root,
    )
    spec.folder.mkdir(parents=True, exist_ok=True)
    return Workload(spec, None)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "8bit", "4bit"])
def test_a_tiny_model_is_really_trained(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, quantization: str
) -> None:
    from safetensors.torch import load_file

    job = JOB.model_copy(update={"quantization": quantization})
    work = workload_of(corpus, tiny_model_folder, tmp_path, job)
    train(work, job, Tracker(None, work.say))
    assert work.metrics["steps"] == 5
    assert work.metrics["train_rows"] == 10
    assert work.metrics["rows_too_long"] == 0
    assert work.metrics["resumed_from"] is None
    assert work.metrics["eval_loss"] > 0
    weights = load_file(work.folder / "adapter" / "adapter_model.safetensors")
    updates = [weight for name, weight in weights.items() if "lora_B" in name]
    assert updates
    assert all(update.abs().max() > 0 for update in updates)
    history = pl.read_parquet(work.folder / "history.parquet")
    assert history["loss"].drop_nulls().len() == 5
    assert history["loss"].is_finite().all()


@pytest.mark.slow
@pytest.mark.parametrize("style", ["chat", "alpaca"])
def test_an_adapter_learns_to_write_descriptions(
    tiny_model_folder: Path, tmp_path: Path, style: PromptStyle
) -> None:
    from transformers import AutoTokenizer

    assortment = assortment_of()
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny_model_folder), style)
    splits = split_products(assortment, seed=7)
    corpus, _ = product_descriptions(assortment, splits, RenderingPolicy(), encoder)
    job = JOB.model_copy(update={"data_fraction": 0.1})
    rows = training_rows(corpus, job, "train")
    work = workload_of(corpus, tiny_model_folder, tmp_path, job)
    train(work, job, Tracker(None, work.say))
    assert work.metrics["train_rows"] == rows.height > 10
    assert work.metrics["train_tokens"] == rows["tokens"].sum()
    assert work.metrics["prompt_style"] == style
    assert work.metrics["eval_loss"] > 0


@pytest.mark.slow
def test_the_same_job_gives_the_same_adapter(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    hashes = []
    for run in ("one", "two"):
        work = workload_of(corpus, tiny_model_folder, tmp_path / run, JOB)
        train(work, JOB, Tracker(None, work.say))
        hashes.append(file_sha256(work.folder / "adapter" / "adapter_model.safetensors"))
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_rows_that_do_not_fit_are_counted_and_not_cut(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    job = JOB.model_copy(update={"grounding": "retrieved", "max_seq_length": 64})
    work = workload_of(corpus, tiny_model_folder, tmp_path, job)
    train(work, job, Tracker(None, work.say))
    assert work.metrics["rows_too_long"] == 6
    assert work.metrics["train_rows"] == 4


def test_no_row_that_fits_is_an_error(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    job = JOB.model_copy(update={"max_seq_length": 64})
    long = corpus.with_columns(pl.lit(100, pl.UInt32).alias("prompt_tokens"))
    work = workload_of(long, tiny_model_folder, tmp_path, job)
    with pytest.raises(ValueError, match="no training row fits max_seq_length=64"):
        train(work, job, Tracker(None, work.say))
