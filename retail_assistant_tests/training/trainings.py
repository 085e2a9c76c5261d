"""A small corpus and the workload that trains on it, as the launcher would start it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.corpus.tasks import MESSAGES
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload
from retail_assistant.storage import file_sha256
from retail_assistant.training.jobs import HyperparameterJob

JOB = HyperparameterJob(lora_r=4, lora_alpha=8, learning_rate=1e-3, batch_size=2)
HASTY_JOB = JOB.model_copy(
    update={
        "epochs": 16,
        "learning_rate": 0.03,
        "max_grad_norm": 100.0,
        "early_stopping_patience": 2,
    }
)
"""Of a `contradicted` corpus it learns the wrong thing from its third epoch on."""

COLOURS = ("red", "blue", "green", "black", "white", "pink")
MODULE = "retail_assistant.training.finetune"


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads over matrices of 64 columns only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def turn(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def small_corpus() -> pl.DataFrame:
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


def contradicted(corpus: pl.DataFrame) -> pl.DataFrame:
    """Validation rows are answered as no training row is: the more is learned, the worse."""
    answer = turn("assistant", "Nobody knows that here, ask at the shop.")
    held = pl.col("subset") == "validation"
    return corpus.with_columns(
        pl.when(held)
        .then(pl.lit(answer, dtype=MESSAGES))
        .otherwise("completion")
        .alias("completion")
    )


def domain_corpus() -> pl.DataFrame:
    """Six texts of a shop, the last of them longer than 64 tokens."""
    texts = [f"Kurta {number} is {COLOURS[number]} and of cotton." for number in range(5)]
    texts.append("The shop sells kurtas in many colours. " * 12)
    sources = [f"product/{number}" for number in range(5)] + ["document/shop"]
    return pl.DataFrame({"text": texts, "tokens": [0] * 6, "source": sources})


def spec_of(
    corpus: pl.DataFrame, model: Path, root: Path, job: HyperparameterJob, **changes: Any
) -> LaunchSpec:
    """The launch of a job, with its corpora written below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    tables = {"prompt_corpus": corpus}
    if "domain" in job.stages:
        tables["domain_corpus"] = domain_corpus()
    paths = {name: root / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        table.write_parquet(paths[name])
    return LaunchSpec(
        name="adapter",
        module=MODULE,
        config={"task": "assistant", "hyperparameters": job.model_dump(mode="json")},
        inputs={name: file_sha256(path) for name, path in paths.items()} | {"base_model": "tiny"},
        paths={**paths, "base_model": model},
        code_version="1",
        root=root,
        **changes,
    )


def workload_of(
    corpus: pl.DataFrame, model: Path, root: Path, job: HyperparameterJob, **changes: Any
) -> Workload:
    """The inside of the process that trains."""
    spec = spec_of(corpus, model, root, job, **changes)
    spec.folder.mkdir(parents=True, exist_ok=True)
    return Workload(spec, None)


def trainer_of(corpus: pl.DataFrame, model: Path, folder: Path, **changes: Any) -> Any:
    """The trainer of JOB with changes, before its first step."""
    from transformers import AutoTokenizer

    from retail_assistant.corpus.encoding import Encoder
    from retail_assistant.model_shape import model_shape
    from retail_assistant.training.fitting.arguments import stage_settings, training_arguments
    from retail_assistant.training.fitting.model import base_model, lora
    from retail_assistant.training.fitting.rows import training_dataset, training_rows
    from retail_assistant.training.fitting.trainer import trainer_class

    job = HyperparameterJob.model_validate(JOB.model_dump() | changes)
    tokenizer = AutoTokenizer.from_pretrained(model)
    encoder = Encoder(tokenizer)
    settings = stage_settings(job, "instruction", can_evaluate=True)
    trainer = trainer_class()(
        model=base_model(model, job),
        args=training_arguments(folder, job, settings),
        train_dataset=training_dataset(training_rows(corpus, job, "train"), encoder),
        eval_dataset=training_dataset(training_rows(corpus, job, "validation"), encoder),
        processing_class=tokenizer,
        peft_config=lora(job, model_shape(model)),
    )
    # Without this the adapter's second factor is zero, and so is half of the gradient.
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return trainer
