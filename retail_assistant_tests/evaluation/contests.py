"""Planted contests: jobs whose answers are right or wrong as a test says, with all their files."""

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.archive import FRAMES, JSON_REPORT, cost_row, write_answers
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.contest import ADAPTER, Outcome, hold_contest
from retail_assistant.evaluation.metrics import SCORED_SCHEMA
from retail_assistant.evaluation.promotion_policy import PromotionPolicy
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    Manifest,
    OutputFile,
    write_artefact_ref,
)
from retail_assistant.settings import Settings
from retail_assistant.storage import TableStore, file_sha256

MOMENT = datetime(2026, 11, 1, tzinfo=UTC)
UNSEEN, UNANSWERABLE = 80, 20
BASE = "base/grounded"


def answers_of(
    variant: str,
    wrong: Collection[int] = (),
    answered: Collection[int] = (),
    invented: int = 0,
    unseen: int = UNSEEN,
    catalog: str = "a",
) -> pl.DataFrame:
    """SCORED: two questions about each unseen product, and unanswerable ones.

    wrong: numbers of the unseen questions that are answered wrongly. answered: numbers of the
    unanswerable ones that are answered. invented: how many wrong answers name a product of no
    catalog. catalog: another one, other questions.
    """
    rows = [
        _row(variant, f"{catalog}-unseen-{number:03d}", f"p{number // 2}", number not in wrong)
        for number in range(unseen)
    ]
    rows += [
        _row(variant, f"{catalog}-none-{number:03d}", None, number not in answered)
        for number in range(UNANSWERABLE)
    ]
    scored = pl.DataFrame(rows, schema=SCORED_SCHEMA, orient="row")
    number = pl.int_range(pl.len())
    return scored.with_columns(hallucinated=number < invented)


def _row(variant: str, dialogue_id: str, product: str | None, correct: bool) -> dict[str, Any]:
    intent = "attribute" if product else "unanswerable"
    right, wrong = (
        ("true_positive", "wrong_value")
        if product
        else ("abstained_right", "answered_unanswerable")
    )
    return {
        **dict.fromkeys(SCORED_SCHEMA),
        **{name: 0 for name, kind in SCORED_SCHEMA.items() if kind == pl.Int64},
        **{name: False for name, kind in SCORED_SCHEMA.items() if kind == pl.Boolean},
        "dialogue_id": dialogue_id,
        "variant": variant,
        "product_id": product,
        "cluster": product or dialogue_id,
        "subset": "unseen" if product else "unanswerable",
        "intent": intent,
        "answer": "right" if correct else "wrong",
        "finish_reason": "stop",
        "outcome": right if correct else wrong,
        "correct": correct,
        "predicted": True,
    }


def untouched(catalog: str = "a", unseen: int = UNSEEN) -> pl.DataFrame:
    """The baseline's answers: all wrong."""
    return answers_of(BASE, range(unseen), range(UNANSWERABLE), unseen=unseen, catalog=catalog)


def comparison_of(*frames: pl.DataFrame, costs: pl.DataFrame | None = None) -> Comparison:
    """These variants against an untouched model that answers nothing right."""
    catalog, _, _ = frames[0]["dialogue_id"][0].partition("-") if frames else ("a", "", "")
    unseen = frames[0].filter(subset="unseen").height if frames else UNSEEN
    scored = pl.concat([*frames, untouched(catalog, unseen)])
    return compare(scored, baseline=BASE, costs=costs, resamples=200)


@dataclass
class Shop:
    """A storage folder with jobs that have answered, and a history of champions."""

    settings: Settings
    said: list[str] = field(default_factory=list)
    jobs: dict[str, pl.DataFrame] = field(default_factory=dict)
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.champions = Champions(self.settings, self.said.append)
        self._artefact("base_model", "base", {"model.safetensors": "weights"}, inputs={})

    @property
    def root(self) -> Path:
        return self.settings.storage

    def job(
        self,
        name: str,
        answers: pl.DataFrame,
        adapter: str = "",
        seconds: float = 40.0,
        run_id: str | None = None,
    ) -> ArtefactRef:
        """A job with an adapter (named as given, else as the job) that gave these answers."""
        fingerprint = adapter or f"{name}-1"
        metrics = {"train_seconds": 100.0, "mlflow_run_id": run_id}
        ref = self._artefact(
            "adapter",
            fingerprint,
            {"adapter/adapter_model.safetensors": fingerprint, "adapter/adapter_config.json": "{}"},
            inputs={"base_model": "base"},
            metrics=metrics,
        )
        write_artefact_ref(ref, self.root, "adapter", name)
        self.answer(name, answers, fingerprint, seconds)
        self.jobs[name] = answers
        answering = {f"seconds {name}": seconds, "questions": answers.height}
        self.costs[name] = cost_row(name, metrics, answering)
        return ref

    def answer(self, name: str, answers: pl.DataFrame, adapter: str, seconds: float = 40.0) -> None:
        """Predictions with an adapter, as the workload leaves them."""
        folder = self.root / "artefacts" / "predictions" / f"{adapter}-{answers['dialogue_id'][0]}"
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["dialogue_id", "variant", "answer", "finish_reason"]
        answers.select(columns).write_parquet(folder / "predictions.parquet")
        config = {"variants": [{"name": name, "grounding": "retrieved"}], "max_tokens": 9}
        metrics = {f"seconds {name}": seconds, "questions": answers.height}
        outputs = _outputs(folder, ["predictions.parquet"], {"predictions.parquet": "predictions"})
        inputs = {"adapter": adapter, "base_model": "base"}
        _write_manifest(folder, "predictions", outputs, inputs, metrics, config)

    def compare(self) -> ArtefactRef:
        """The comparison of all jobs."""
        frames = list(self.jobs.values())
        costs = pl.from_dicts(list(self.costs.values()), infer_schema_length=None)
        found = comparison_of(*frames, costs=costs)
        version = "-".join(sorted(f"{name}" for name in self.jobs))
        folder = self.root / "artefacts" / "model_comparison" / version
        shutil.rmtree(folder, ignore_errors=True)
        write_answers(pl.concat(frames), folder)
        # As `write_comparison` does, without the page for people.
        for frame in FRAMES:
            getattr(found, frame).write_parquet(folder / f"{frame}.parquet")
        (folder / JSON_REPORT).write_text(json.dumps(found.to_json_dict()))
        ref = ArtefactRef(folder=folder, fingerprint=version)
        write_artefact_ref(ref, self.root, "model_comparison", None)
        return ref

    def report(self, answers: pl.DataFrame | None = None, adapter: str = "") -> pl.DataFrame:
        """The champion's own report; without answers it was not asked."""
        if answers is None:
            frame = pl.DataFrame(schema={**SCORED_SCHEMA, ADAPTER: pl.String})
        else:
            frame = answers.with_columns(pl.lit(adapter).alias(ADAPTER))
        TableStore(self.root).write(frame, "champion_report")
        return frame

    def contest(
        self, report: pl.DataFrame | None = None, policy: PromotionPolicy | None = None
    ) -> Outcome:
        """Compare, and let the policy decide."""
        return hold_contest(
            self.compare(),
            self.report() if report is None else report,
            self.champions,
            policy or PromotionPolicy(),
            seed=0,
        )

    def _artefact(
        self,
        name: str,
        fingerprint: str,
        files: dict[str, str],
        inputs: dict[str, str],
        metrics: dict[str, Any] | None = None,
    ) -> ArtefactRef:
        folder = self.root / "artefacts" / name / fingerprint
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        outputs = _outputs(folder, list(files), {})
        _write_manifest(folder, name, outputs, inputs, metrics or {}, {})
        return ArtefactRef(folder=folder, fingerprint=fingerprint)


def _outputs(folder: Path, files: list[str], names: dict[str, str]) -> dict[str, OutputFile]:
    return {
        names.get(path, path): OutputFile(
            path=path, sha256=file_sha256(folder / path), size=(folder / path).stat().st_size
        )
        for path in files
    }


def _write_manifest(
    folder: Path,
    name: str,
    outputs: dict[str, OutputFile],
    inputs: dict[str, str],
    metrics: dict[str, Any],
    config: dict[str, Any],
) -> None:
    manifest = Manifest(
        name=name,
        fingerprint=folder.name,
        code_version="1",
        inputs=inputs,
        config=config,
        outputs=outputs,
        metrics=metrics,
        started=MOMENT,
        finished=MOMENT,
        host={},
        packages={},
    )
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest.model_dump(mode="json")))
