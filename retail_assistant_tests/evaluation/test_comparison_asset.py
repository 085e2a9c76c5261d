"""The comparison as an asset: a real run on a store in which most partitions are missing."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from retail_assistant.definitions import defs
from retail_assistant.defs.comparison_automation import BASELINE, COMPARISON, REPORTS
from retail_assistant.defs.conditions import DATA_VERSION_TAG
from retail_assistant.evaluation.archive import read_comparison
from retail_assistant.evaluation.metrics import score
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

GROUNDED, CLOSED = "quickstart-grounded", "quickstart-closed-book"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def wants_to_compare(graph: dg.Definitions, instance: dg.DagsterInstance) -> bool:
    found = dg.evaluate_automation_conditions(
        defs=graph, instance=instance, asset_selection=dg.AssetSelection.assets(COMPARISON)
    )
    return found.total_requested > 0


@pytest.fixture
def store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dialogues: pl.DataFrame,
    products: pl.DataFrame,
) -> Iterator[TableStore]:
    """A store with all that the comparison reads, of one job that was evaluated."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("limits: {min_questions: 1, min_unanswerable_questions: 1}\n")
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(policy))
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    get_settings.cache_clear()
    store = TableStore(get_settings().storage)
    answers = dialogues.filter(pl.col("subset") != "train").select(
        "dialogue_id", "answer", finish_reason=pl.lit("stop")
    )
    job = answers.with_columns(variant=pl.lit(GROUNDED))
    base = answers.with_columns(variant=pl.lit("base/grounded"), answer=pl.lit("I do not know."))
    store.write(dialogues, "prompt_corpus", "assistant")
    store.write(products, "assortment")
    store.write(base, "baseline_predictions")
    store.write(score(dialogues, job, products), "evaluation_report", GROUNDED)
    store.write(score(dialogues, job, products).head(3), "evaluation_report", CLOSED)
    yield store
    get_settings.cache_clear()


@pytest.mark.slow
def test_the_real_comparison_takes_what_there_is(
    store: TableStore, instance: dg.DagsterInstance
) -> None:
    graph = defs()
    for key, partition in ((BASELINE, None), (REPORTS, GROUNDED)):
        event = dg.AssetMaterialization(key, partition=partition, tags={DATA_VERSION_TAG: "1"})
        instance.report_runless_asset_event(event)
    assert wants_to_compare(graph, instance)
    job = graph.resolve_implicit_global_asset_job_def().get_subset(asset_selection={COMPARISON})
    result = job.execute_in_process(instance=instance)
    assert result.success
    (made,) = result.get_asset_materialization_events()
    shown = made.materialization.metadata
    assert {
        "headline", "report", "open_report", "comparison", "accuracy",  "accuracy_by_cost",
        "outcomes_by_asked_attribute", "tests", "differences", "pareto", "confusion",
        "differ_most", "not_evaluated",
    } <= set(shown)  # fmt: skip
    assert str(shown["open_report"].value).endswith("/artifacts/report.html")
    comparison = read_comparison(
        read_artefact_ref(get_settings().storage, "model_comparison").folder
    )
    assert comparison.variants == ("base/grounded", GROUNDED)
    missing = dict(comparison.missing.iter_rows())
    assert missing[CLOSED] == "evaluated on another corpus"
    assert missing["data-50"] == "never trained"
    assert Path(str(shown["report"].value)).is_file()
    # It says what it was made from, so that the next look requests nothing.
    assert not wants_to_compare(graph, instance)
