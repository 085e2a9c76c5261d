"""Fine-tuning: real steps on a tiny model, in every variant, and what they leave."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.splits import split_products
from retail_assistant.corpus.tasks import RenderingPolicy, product_descriptions
from retail_assistant.launch.workload import Workload
from retail_assistant.model_shape import model_shape
from retail_assistant.settings import SHIPPED_STUDIES
from retail_assistant.storage import file_sha256
from retail_assistant.training.finetune import train
from retail_assistant.training.fitting.checkpoints import checkpoint_of, stage_folder
from retail_assistant.training.fitting.rows import training_rows
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.targets import trainable_parameters
from retail_assistant.training.studies import load_registry
from retail_assistant.training.tracking.tracker import Tracker
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.training.trainings import (
    HASTY_JOB,
    JOB,
    contradicted,
    one_thread,
    small_corpus,
    workload_of,
)


@pytest.fixture(scope="module", autouse=True)
def thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return small_corpus()


def trained(corpus: pl.DataFrame, model: Path, root: Path, **changes: Any) -> Workload:
    """The workload of JOB with changes, after its training."""
    job = HyperparameterJob.model_validate(JOB.model_dump() | changes)
    work = workload_of(corpus, model, root, job)
    train(work, job, Tracker(None, work.folder, work.say))
    return work


def history_of(work: Workload) -> pl.DataFrame:
    return pl.read_parquet(work.folder / "history.parquet")


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def agree(one: Path, other: Path) -> bool:
    return file_sha256(one / "adapter_model.safetensors") == file_sha256(
        other / "adapter_model.safetensors"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantization": "8bit"},
        {"quantization": "4bit"},
        {"use_rslora": True, "target_modules": "attention"},
        {"packing": True, "max_seq_length": 64},
        {"padding_free": True},
        {"gradient_checkpointing": "on"},
        {"gradient_accumulation_steps": 2, "batch_size": 1},
    ],
    ids=str,
)
def test_a_tiny_model_is_really_trained(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    import torch

    work = trained(corpus, tiny_model_folder, tmp_path, **changes)
    metrics = work.metrics
    packed = "packing" in changes
    assert 0 < metrics["steps"] < 5 if packed else metrics["steps"] == 5
    assert metrics["train_rows"] == 10
    assert metrics["rows_too_long"] == 0
    assert metrics["resumed_from"] is None
    assert metrics["eval_loss"] > 0
    assert metrics["processes"] == 1
    updates = {n: w for n, w in weights_of(work.folder / "adapter").items() if "lora_B" in n}
    assert len(updates) == (8 if "target_modules" in changes else 14)
    assert all(update.abs().max() > 0 for update in updates.values())
    assert {update.dtype for update in updates.values()} == {torch.float32}
    losses = history_of(work)["loss"].drop_nulls()
    assert len(losses) == metrics["steps"]
    assert losses.is_finite().all()


@pytest.fixture(scope="module")
def two_stages(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workload:
    """Five steps over six texts (one cut into five), then ten over ten rows, twice."""
    return trained(
        corpus,
        tiny_model_folder,
        tmp_path_factory.mktemp("stages"),
        stages=["domain", "instruction"],
        domain_learning_rate=2e-3,
        epochs=2,
        evaluations=2,
        warmup_ratio=0.2,
        max_seq_length=64,
        sample_generations=1,
    )


@pytest.mark.slow
def test_the_history_goes_on_over_both_stages(two_stages: Workload) -> None:
    history = history_of(two_stages)
    trained = history.drop_nulls("loss")
    assert trained["step"].to_list() == list(range(1, 16))
    assert trained["stage"].to_list() == ["domain"] * 5 + ["instruction"] * 10
    assert history["tokens"].is_sorted()
    assert history["seconds"].is_sorted()
    assert trained["epoch"].to_list()[4] == 1
    assert trained["epoch"].to_list()[-1] == 2
    rates = trained["learning_rate"].to_list()
    assert max(rates[:5]) == pytest.approx(2e-3)
    assert rates[5] < rates[7] == max(rates[5:]) == pytest.approx(1e-3)
    assert rates[-1] < 1e-4


@pytest.mark.slow
def test_validation_loss_and_samples_are_taken_as_often_as_asked(two_stages: Workload) -> None:
    history = history_of(two_stages)
    evaluated = history.drop_nulls("eval_loss")
    # Twice an epoch, evenly, the last step among them; plain text is not evaluated.
    assert evaluated["step"].to_list() == [5 + step for step in (2, 5, 8, 10)]
    assert two_stages.metrics["eval_loss"] == evaluated["eval_loss"][-1]
    samples = pl.read_parquet(two_stages.folder / "samples.parquet")
    assert samples["step"].to_list() == evaluated["step"].to_list()
    assert set(samples["row_id"]) == {"d10"}
    assert set(samples["prompt"]) == {"What colour is kurta 10?"}
    assert set(samples["expected"]) == {"It is white. It is white. "}
    assert samples["answer"].null_count() == 0


@pytest.mark.slow
def test_what_was_counted_adds_up(two_stages: Workload) -> None:
    metrics = two_stages.metrics
    history = history_of(two_stages)
    assert metrics["domain_texts"] == 6
    assert metrics["domain_texts_cut"] == 1
    assert metrics["train_tokens"] == history["tokens"].max()
    assert 0 < metrics["learned_tokens"] < metrics["train_tokens"]
    assert metrics["steps"] == 15
    # 4 FLOP a weight: two layers of q, k, v, o and three of the feed-forward block, four norms and
    # the last; the head (4096 x 64) for learned tokens only.
    blocks = 2 * (64 * (128 + 64 + 64 + 128) + 3 * 64 * 128) + 5 * 64
    flops = 4 * (blocks * metrics["train_tokens"] + 4096 * 64 * metrics["learned_tokens"])
    assert metrics["flops_per_token"] == round(flops / metrics["train_tokens"])
    assert metrics["parameters"] == blocks + 4096 * 64
    assert 0 < metrics["mfu"] < 1
    assert 0 < metrics["evaluation_seconds"] < metrics["train_seconds"]
    assert metrics["tokens_per_second"] > metrics["train_tokens"] / metrics["train_seconds"]
    assert 100 < metrics["peak_memory_mib"] < 20_000
    assert metrics["gpu_peak_memory_mib"] is None
    assert metrics["stopped_early"] is False


@pytest.mark.slow
def test_trainable_parameters_are_those_of_the_adapter(two_stages: Workload) -> None:
    weights = weights_of(two_stages.folder / "adapter")
    counted = sum(weight.numel() for weight in weights.values())
    assert two_stages.metrics["trainable_parameters"] == counted


@pytest.mark.slow
def test_the_second_stage_goes_on_with_the_first_ones_adapter(
    two_stages: Workload, corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = stage_folder(two_stages.folder, "domain")
    first, second = weights_of(checkpoint_of(folder, 5)), weights_of(two_stages.folder / "adapter")
    assert any(weight.abs().max() > 0 for name, weight in first.items() if "lora_B" in name)
    assert first.keys() == second.keys()
    # A few steps later the weights are near those, and far from those of another beginning.
    job = HyperparameterJob.model_validate(two_stages.spec.config["hyperparameters"])
    alone = trained(
        corpus,
        tiny_model_folder,
        tmp_path,
        **job.model_dump() | {"stages": ["instruction"], "domain_learning_rate": None, "seed": 8},
    )
    other = weights_of(alone.folder / "adapter")
    for name in first:
        if "lora_A" in name:
            moved = (second[name] - first[name]).abs().mean()
            assert moved < 0.3 * (second[name] - other[name]).abs().mean()


@pytest.mark.slow
def test_the_adapter_comes_with_its_card_and_counts_as_outputs(two_stages: Workload) -> None:
    two_stages.finish()
    manifest = json.loads((two_stages.folder / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {
        "history",
        "samples",
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
    }
    card = (two_stages.folder / "adapter" / "README.md").read_text()
    assert two_stages.spec.fingerprint in card
    config = json.loads((two_stages.folder / "adapter" / "adapter_config.json").read_text())
    assert config["inference_mode"] is True
    assert config["r"] == JOB.lora_r


@pytest.fixture(scope="module")
def stopped_early(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workload:
    root = tmp_path_factory.mktemp("early")
    return trained(contradicted(corpus), tiny_model_folder, root, **HASTY_JOB.model_dump())


@pytest.mark.slow
def test_a_training_that_gets_worse_ends_early(stopped_early: Workload) -> None:
    losses = history_of(stopped_early).drop_nulls("eval_loss")["eval_loss"].to_list()
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 6
    assert stopped_early.metrics["stopped_early"] is True
    assert stopped_early.metrics["steps"] == 5 * len(losses)


@pytest.mark.slow
def test_the_best_checkpoint_is_the_adapter(stopped_early: Workload) -> None:
    metrics = stopped_early.metrics
    evaluated = history_of(stopped_early).drop_nulls("eval_loss")
    assert metrics["eval_loss"] == evaluated["eval_loss"].min()
    best = evaluated.filter(pl.col("eval_loss") == metrics["eval_loss"])["step"].item()
    assert metrics["best_step"] == best < metrics["steps"]
    folder = stage_folder(stopped_early.folder, "instruction")
    assert agree(stopped_early.folder / "adapter", checkpoint_of(folder, best))
    assert not agree(stopped_early.folder / "adapter", checkpoint_of(folder, metrics["steps"]))


@pytest.mark.slow
def test_without_evaluations_there_are_none(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    work = trained(corpus, tiny_model_folder, tmp_path, evaluations=0)
    assert history_of(work)["eval_loss"].null_count() == 5
    assert work.metrics["eval_loss"] is work.metrics["best_step"] is None
    assert pl.read_parquet(work.folder / "samples.parquet").is_empty()


def descriptions(model: Path, style: PromptStyle) -> pl.DataFrame:
    """The corpus `product_description` of the embedded catalog."""
    from transformers import AutoTokenizer

    assortment = assortment_of()
    encoder = Encoder(AutoTokenizer.from_pretrained(model), style)
    splits = split_products(assortment, seed=7)
    return product_descriptions(assortment, splits, RenderingPolicy(), encoder)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qlora-r8-qv-4bit", "qlora-r8-all-8bit"])
def test_jobs_of_the_study_qlora_targets_train(
    tiny_model_folder: Path, tmp_path: Path, name: str
) -> None:
    job = load_registry(SHIPPED_STUDIES).job(name).hyperparameters
    given = job.model_dump() | {"data_fraction": 0.05}
    work = trained(descriptions(tiny_model_folder, "chat"), tiny_model_folder, tmp_path, **given)
    assert work.metrics["train_rows"] >= 10
    assert work.metrics["trainable_parameters"] == trainable_parameters(
        model_shape(tiny_model_folder), job
    )
    updates = {n: w for n, w in weights_of(work.folder / "adapter").items() if "lora_B" in n}
    assert len(updates) == (4 if "qv" in name else 14)
    assert all(update.abs().max() > 0 for update in updates.values())


@pytest.mark.slow
@pytest.mark.parametrize("style", ["chat", "alpaca"])
def test_an_adapter_learns_to_write_descriptions(
    tiny_model_folder: Path, tmp_path: Path, style: PromptStyle
) -> None:
    corpus = descriptions(tiny_model_folder, style)
    rows = training_rows(corpus, JOB.model_copy(update={"data_fraction": 0.1}), "train")
    work = trained(corpus, tiny_model_folder, tmp_path, data_fraction=0.1)
    assert work.metrics["train_rows"] == rows.height > 10
    assert work.metrics["train_tokens"] == rows["tokens"].sum()
    assert work.metrics["prompt_style"] == style
    assert work.metrics["eval_loss"] > 0


@pytest.mark.slow
def test_the_same_job_gives_the_same_adapter(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    one, two, unsampled = (
        trained(corpus, tiny_model_folder, tmp_path / name, lora_dropout=0.2, **changes)
        for name, changes in (("1", {}), ("2", {}), ("3", {"sample_generations": 0}))
    )
    assert agree(one.folder / "adapter", two.folder / "adapter")
    # Nor does looking at it change it.
    assert agree(one.folder / "adapter", unsampled.folder / "adapter")


@pytest.mark.slow
def test_rows_that_do_not_fit_are_counted_and_not_cut(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    work = trained(corpus, tiny_model_folder, tmp_path, grounding="retrieved", max_seq_length=64)
    assert work.metrics["rows_too_long"] == 6
    assert work.metrics["train_rows"] == 4


def test_no_row_that_fits_is_an_error(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    long = corpus.with_columns(pl.lit(100, pl.UInt32).alias("prompt_tokens"))
    with pytest.raises(ValueError, match="no training row fits max_seq_length=64"):
        trained(long, tiny_model_folder, tmp_path, max_seq_length=64)
