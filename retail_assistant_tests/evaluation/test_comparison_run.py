"""The comparison's MLflow run: dagster-mlflow, one run a Dagster run, and none that stops it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.defs.comparison_run import COMPARISON_RUN, EXPERIMENT, comparison_run
from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.comparison_run import comparison_metrics, record_comparison
from retail_assistant.evaluation.metrics import score
from retail_assistant.settings import get_settings
from retail_assistant_tests.mlflow_server import free_port

pytestmark = pytest.mark.slow
Frames = Callable[..., pl.DataFrame]


@pytest.fixture(scope="module")
def comparison(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> Comparison:
    predictions = [
        predict("job-a", answers={"unseen-4": "The length is 12 cm."}),
        predict("base/grounded", "The fabric is Linen."),
    ]
    scored = score(dialogues, pl.concat(predictions), products)
    return compare(scored, baseline={"job-a": "base/grounded"}, resamples=100)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    get_settings.cache_clear()
    yield tmp_path / "var"
    get_settings.cache_clear()


def materialize(body: Callable[[Any], None]) -> dg.ExecuteInProcessResult:
    @dg.asset(required_resource_keys={COMPARISON_RUN})
    def compared(context: dg.AssetExecutionContext) -> None:
        body(getattr(context.resources, COMPARISON_RUN))

    return dg.materialize(
        [compared], resources={COMPARISON_RUN: comparison_run}, raise_on_error=False
    )


def runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=get_settings().mlflow_tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id]))


def test_a_comparison_is_one_run_with_scores_and_report(
    storage: Path, comparison: Comparison
) -> None:
    report = storage / "compared" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>better</p>")
    comparison.tests.write_parquet(report.with_name("tests.parquet"))
    told: list[tuple[str, str]] = []

    def body(run: Any) -> None:
        told.append(record_comparison(run, comparison, report, {"run.job-a": "abc"}))

    result = materialize(body)
    assert result.success
    (run,) = runs()
    assert told == [(run.info.experiment_id, run.info.run_id)]
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == result.run_id
    assert run.data.tags["dagster_run_url"].endswith(f"/runs/{result.run_id}")
    assert run.data.tags["run.job-a"] == "abc"
    assert run.data.metrics == pytest.approx(comparison_metrics(comparison))
    strict = comparison.metric("job-a", "strict_accuracy", "unseen")
    assert strict is not None
    assert run.data.metrics["strict_accuracy/unseen/job-a"] == pytest.approx(strict["value"])
    assert "strict_accuracy/unseen/base-grounded" in run.data.metrics
    files = Path(run.info.artifact_uri.removeprefix("file://"))
    assert {"report.html", "tests.parquet"} <= {path.name for path in files.iterdir()}
    assert run.data.metrics["p_holm_to_baseline/unseen/job-a"] <= 1
    assert list(Path.cwd().iterdir()) == []
    # The next Dagster run has a run of its own.
    assert materialize(body).success
    assert len(runs()) == 2


def test_a_comparison_that_fails_leaves_no_run_open(storage: Path) -> None:
    def body(run: Any) -> None:
        run.log_metric("accuracy", 0.5)
        raise ValueError("no")

    assert not materialize(body).success
    (run,) = runs()
    assert run.info.status == "FAILED"


def test_a_server_that_is_away_stops_no_comparison(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_MLFLOW_URI", f"http://127.0.0.1:{free_port()}")
    get_settings.cache_clear()
    given: list[Any] = []
    assert materialize(given.append).success
    assert given == [None]
