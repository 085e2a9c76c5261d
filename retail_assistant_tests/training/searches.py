"""Searches for tests: a file's content, one that has begun, and trials that have ended."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    Manifest,
    write_artefact_ref,
)
from retail_assistant.storage import TableStore, write_atomically
from retail_assistant.training.searching.progress import (
    SEARCH_ASSET,
    TRIAL_ASSET,
    RunningSearch,
    Trial,
    begin_search,
)
from retail_assistant.training.searching.space import Search, load_search

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
BEST_RATE = 1e-3


def search_content(**fields: Any) -> dict[str, Any]:
    """A small search, as a file says it."""
    return {
        "search": "small-search",
        "description": "A search.",
        "defaults": {"epochs": 1},
        "space": {
            "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
            "size": {
                "kind": "choice",
                "values": {
                    "r4": {"lora_r": 4, "lora_alpha": 8},
                    "r8": {"lora_r": 8, "lora_alpha": 16},
                },
            },
        },
        "trials": 6,
        "hours": 2,
    } | fields


def search_of(**fields: Any) -> Search:
    """That search, loaded."""
    return load_search("here", search_content(**fields))


def begun(root: Path, search: Search, now: datetime = BEGUN, corpus: str = "a") -> RunningSearch:
    """A search that has begun on a corpus of one row, with its pointer."""
    prompts = TableStore(root).write(pl.DataFrame({"text": [corpus]}), "prompt_corpus", search.task)
    base_model = ArtefactRef(folder=root / "base", fingerprint="base")
    ref = begin_search(root, search, {search.task: prompts}, base_model, now)
    write_artefact_ref(ref, root, SEARCH_ASSET, search.search)
    return RunningSearch(root, ref)


def end_trial(root: Path, trial: Trial, loss: float | None) -> None:
    """Leave what the training of a trial leaves: a manifest, and the pointer to it."""
    folder = root / "artefacts" / "adapter" / f"of-{trial.key}"
    manifest = Manifest(
        name="adapter",
        fingerprint=trial.key,
        code_version="1",
        inputs={},
        config={},
        outputs={},
        metrics={"eval_loss": loss, "train_seconds": 1.5, "trainable_parameters": 7},
        started=BEGUN,
        finished=BEGUN,
        host={},
        packages={},
    )
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json())
    ref = ArtefactRef(folder=folder, fingerprint=trial.key)
    write_artefact_ref(ref, root, TRIAL_ASSET, trial.key)


def loss_at(trial: Trial) -> float:
    """A loss that is least at the learning rate 1e-3: orders of magnitude away from it, squared."""
    return math.log10(trial.job.hyperparameters.learning_rate / BEST_RATE) ** 2
