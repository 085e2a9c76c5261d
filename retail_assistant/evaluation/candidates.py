"""Which adapter gave which answers: what a comparison is of, whatever was trained since."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.archive import cost_row
from retail_assistant.evaluation.predict import PredictConfig
from retail_assistant.launch.spec import (
    ArtefactRef,
    Manifest,
    artefact_at,
    finished_artefacts,
    read_artefact_ref,
    read_manifest,
)
from retail_assistant.storage import StorageError

ANSWERS = ["dialogue_id", "answer", "finish_reason"]


@dataclass(frozen=True)
class Answering:
    """A job's adapter that answered, how it was prompted, and what that took.

    metrics: of the manifest of the answers.
    """

    job: str
    grounding: str
    adapter: ArtefactRef
    metrics: dict[str, Any]

    @property
    def cost(self) -> dict[str, Any]:
        """What training and answering took."""
        return cost_row(self.job, self.adapter.manifest().metrics, self.metrics)


def answering_adapter(root: Path, job: str, answers: pl.DataFrame) -> Answering | None:
    """The adapter that gave a job's answers; None where no predictions hold just these.

    The job's newest adapter need not be the one: it may have been trained again since.

    Args:
        root: the storage folder.
        job: the variant's name in the predictions.
        answers: dialogue_id, answer, finish_reason (a SCORED frame has them).
    """
    given = answers.select(ANSWERS).sort("dialogue_id")
    found = [
        one
        for one, path in _answered(root, job)
        if given.equals(_answers_to(given, pl.read_parquet(path).filter(variant=job)))
    ]
    # Two trainings may have learned to answer alike: the one that the job points at comes first.
    newest = _newest(root, job)
    return next((one for one in found if one.adapter == newest), found[0] if found else None)


def answered_by(root: Path, job: str, adapter: str) -> Answering | None:
    """The newest answers of a job's adapter, by its fingerprint; None where there are none."""
    return next(
        (one for one, _ in _answered(root, job) if one.adapter.fingerprint == adapter), None
    )


def _answered(root: Path, job: str) -> Iterator[tuple[Answering, Path]]:
    """Every finished answering by the job, the newest first, with its file."""
    for ref, manifest in finished_artefacts(root, "predictions"):
        answering = _of_job(root, manifest, job)
        if answering is not None:
            yield answering, ref.path("predictions")


def _of_job(root: Path, manifest: Manifest, job: str) -> Answering | None:
    variants = PredictConfig.model_validate(manifest.config).variants
    grounding = next((one.grounding for one in variants if one.name == job), None)
    fingerprint = manifest.inputs.get("adapter")
    if grounding is None or fingerprint is None:
        return None
    adapter = artefact_at(root, "adapter", fingerprint)
    if read_manifest(adapter.folder, verify=False) is None:
        return None
    return Answering(job, grounding, adapter, manifest.metrics)


def _answers_to(questions: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """The predictions for these questions as a SCORED frame holds them."""
    return (
        questions.select("dialogue_id")
        .join(predictions.select(ANSWERS), on="dialogue_id", how="left")
        .with_columns(pl.col("answer").fill_null(""), pl.col("finish_reason").fill_null("none"))
        .sort("dialogue_id")
    )


def _newest(root: Path, job: str) -> ArtefactRef | None:
    try:
        return read_artefact_ref(root, "adapter", job)
    except StorageError:
        return None
