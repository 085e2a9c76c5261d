"""The prompts: a task's texts as the model reads them, a partition a task."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.catalog.pictures import bars
from retail_assistant.corpus.dialogues import DIALOGUE_SOURCES
from retail_assistant.corpus.knowledge_files import knowledge_version
from retail_assistant.corpus.labelled_texts import LABELLED
from retail_assistant.corpus.lengths import Window, truncated_by_job
from retail_assistant.corpus.profile import get_corpus_profile
from retail_assistant.corpus.prompts import prompt_spec
from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.defs.approval import approval_record
from retail_assistant.defs.conditions import REFRESH_CORPUS
from retail_assistant.defs.io_managers import column_lineage, preview, table_result
from retail_assistant.defs.partitions import REGISTRY, task_partitions
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore, fingerprint
from retail_assistant.training.jobs import CLASSIFIED_TASK

UPSTREAM = {"assistant": "screened_dialogues", CLASSIFIED_TASK: "labelled_texts"}
LENGTHS = ("prompt_tokens", "grounded_prompt_tokens", "completion_tokens", "tokens")


@dg.asset(
    group_name="corpus",
    owners=["team:catalog"],
    kinds={"polars", "parquet"},
    partitions_def=task_partitions,
    deps=["corpus_approval", "store_knowledge", "labelled_texts"],
    code_version=f"{PROMPT_VERSION}.{fingerprint(get_corpus_profile().rendering.model_dump())[:8]}",
    automation_condition=REFRESH_CORPUS,
)
def prompt_corpus(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    assortment: TableRef,
    product_splits: TableRef,
    screened_dialogues: TableRef,
    catalog_index: ArtefactRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """A task's texts as the model reads them: prompts, completions, and their lengths in tokens.

    `assistant`: dialogues with catalog records and without, from an approved corpus only.
    `product_description`: name and category in, description out. `domain_text`: plain text.
    `sentiment`: a labelled text in, its label out.
    """
    settings, task = get_settings(), context.partition_key
    if task == "assistant":
        # The check on `corpus_approval` stops a run that it is part of, and automation. This stops
        # a run of the prompts alone.
        approval_record().require_approved(screened_dialogues.sha256)
    inputs: dict[str, tuple[str, Path]] = {
        "dialogues": (screened_dialogues.sha256, screened_dialogues.path),
        "assortment": (assortment.sha256, assortment.path),
        "splits": (product_splits.sha256, product_splits.path),
        "index": (catalog_index.fingerprint, catalog_index.folder / "index"),
        "base_model": (base_model.fingerprint, base_model.folder / "model"),
    }
    if settings.knowledge:
        inputs["knowledge"] = (knowledge_version(settings.knowledge), settings.knowledge)
    if task == CLASSIFIED_TASK:
        # No input: the other tasks do not wait for it.
        texts = TableStore(settings.storage).ref("labelled_texts")
        inputs["texts"] = (texts.sha256, texts.path)
    policy = get_corpus_profile().rendering
    spec = prompt_spec(task, policy, inputs, settings.storage, seed=settings.seed)
    ref = launcher.launch(context, spec)
    manifest = ref.manifest()
    corpus = pl.read_parquet(ref.path("prompt_corpus"))
    upstream = UPSTREAM.get(task, "assortment")
    return table_result(
        corpus,
        fingerprint=ref.fingerprint,
        lengths=preview(_lengths(corpus), rows=20),
        **_length_plots(manifest.metrics["token_histogram"]),
        **_too_long(corpus, task),
        work=dg.MetadataValue.json(
            {name: value for name, value in manifest.metrics.items() if name != "token_histogram"}
        ),
        **column_lineage(upstream, _prompt_sources(corpus, task)),
    )


def _lengths(corpus: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in LENGTHS if name in corpus.columns]
    return corpus.select(columns).describe(percentiles=(0.5, 0.95))


def _length_plots(histograms: Mapping[str, Mapping[str, list[int]]]) -> dict[str, Any]:
    """Rows by their length in tokens, a plot for each column of lengths."""
    return {
        f"{column}_histogram": dg.MetadataValue.md(
            bars(
                pl.DataFrame(
                    {
                        "tokens": [
                            f"{low} to {high - 1}"
                            for low, high in zip(found["edges"], found["edges"][1:], strict=False)
                        ],
                        "rows": found["counts"],
                    }
                ),
                "tokens",
                "rows",
                f"rows by {column.replace('_', ' ')}",
            )
        )
        for column, found in histograms.items()
    }


def _too_long(corpus: pl.DataFrame, task: str) -> dict[str, Any]:
    """For each job of the task the rows that it cannot read whole."""
    windows = {
        name: Window(job.hyperparameters.grounding, job.hyperparameters.max_seq_length)
        for name, job in REGISTRY.of_task(task).items()
    }
    if not windows:
        return {}
    return {"too_long_by_job": preview(truncated_by_job(corpus, windows), rows=40)}


def _prompt_sources(corpus: pl.DataFrame, task: str) -> dict[str, list[str]]:
    """Which columns of what a task is made from are behind the corpus' own."""
    texts, taken_over = _SOURCES.get(task, _PRODUCT_SOURCES)
    return {name: texts.get(name, [name] if name in taken_over else []) for name in corpus.columns}


_PRODUCT_SOURCES: tuple[dict[str, list[str]], Collection[str]] = (
    {"prompt": ["name", "category", "brand"], "completion": ["description"]},
    {"product_id"},
)
_SOURCES: dict[str, tuple[dict[str, list[str]], Collection[str]]] = {
    "assistant": (
        {"prompt": ["question"], "grounded_prompt": ["question"], "completion": ["answer"]},
        DIALOGUE_SOURCES,
    ),
    CLASSIFIED_TASK: ({"prompt": ["text"], "completion": ["label"]}, LABELLED),
}
