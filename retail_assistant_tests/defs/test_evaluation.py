"""The assets `evaluation_report` and `evaluation_set_audit` in Dagster, on planted answers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant.defs.audit import (
    evaluation_set_audit,
    observed_shopper_mix,
    questions_are_like_the_assortment,
)
from retail_assistant.defs.evaluation import evaluation_report
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.judging import observed_judge
from retail_assistant.defs.partitions import job_partitions, task_partitions
from retail_assistant.evaluation.metrics import SCORED_SCHEMA
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpora import template_dialogues

JOB = "quickstart-grounded"
Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def tables() -> dict[tuple[str, str | None], pl.DataFrame]:
    """An assortment, questions about it, and gold answers to all but one of them."""
    assortment = assortment_of()
    splits = split_products(assortment, seed=1)
    sample = sample_products(assortment, splits, train=10, evaluation=10, seed=1)
    corpus = template_dialogues(sample, splits, assortment, seed=1)
    asked = corpus.filter(pl.col("subset").is_in(["recall", "unseen", "unanswerable"]))
    predictions = asked.sort("intent", "dialogue_id").select(
        "dialogue_id",
        variant=pl.lit(JOB),
        answer=pl.when(pl.int_range(pl.len()) > 0).then("answer").otherwise(pl.lit("")),
        finish_reason=pl.lit("stop"),
        sem_score=pl.lit(0.5),
    )
    return {
        ("assortment", None): assortment,
        ("prompt_corpus", "assistant"): corpus,
        ("predictions", JOB): predictions,
    }


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: dict[tuple[str, str | None], pl.DataFrame],
) -> Iterator[Run]:
    """Materialize an asset whose inputs are in the storage folder, with settings."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    get_settings.cache_clear()
    store = TableStore(tmp_path)
    for (name, partition), frame in tables.items():
        store.write(frame, name, partition)

    def materialize(
        asset: dg.AssetsDefinition, partition: str | None, **settings: str
    ) -> dg.ExecuteInProcessResult:
        for name, value in settings.items():
            monkeypatch.setenv(f"RETAIL_{name.upper()}", value)
        get_settings.cache_clear()
        inputs = [
            dg.AssetSpec("assortment"),
            dg.AssetSpec("prompt_corpus", partitions_def=task_partitions),
            dg.AssetSpec("predictions", partitions_def=job_partitions),
        ]
        return dg.materialize(
            [asset, questions_are_like_the_assortment, *inputs],
            resources={"io_manager": StorageIOManager()},
            partition_key=partition,
            selection=dg.AssetSelection.assets(asset),
            raise_on_error=False,
        )

    yield materialize
    get_settings.cache_clear()


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_a_report_holds_every_answer_with_its_class_and_its_numbers(
    run: Run, tmp_path: Path
) -> None:
    result = run(evaluation_report, JOB)
    assert result.success
    scored = TableStore(tmp_path).ref("evaluation_report", JOB).read()
    assert scored.schema == SCORED_SCHEMA
    assert scored["error_class"].drop_nulls().to_list() == ["malformed"]
    assert set(scored["sem_score"]) == {0.5}
    assert scored["truthfulness"].null_count() == scored.height
    shown = metadata(result, "evaluation_report")
    assert "MiniLM" in shown["embedding_model"]
    assert shown["judge"]["judge"] is None
    groups = {record.data["dimension"] for record in shown["breakdowns"].records}
    assert groups == {"intent", "department", "category", "subcategory"}
    assert len(shown["errors"].records) == 1
    assert any(record.data["metric"] == "sem_score" for record in shown["metrics"].records)


def test_a_judge_of_the_settings_fills_the_column(run: Run, tmp_path: Path) -> None:
    with ChatServer().running() as server:
        result = run(evaluation_report, JOB, judge_url=server.url, judge_model="strict")
    assert result.success
    scored = TableStore(tmp_path).ref("evaluation_report", JOB).read()
    assert scored["truthfulness"].null_count() == 0
    assert scored.filter(error_class="malformed")["truthfulness"].item() == 1
    judge = metadata(result, "evaluation_report")["judge"]
    assert (judge["judged"], judge["failed_judgements"]) == (scored.height, 0)


@pytest.mark.fault(
    "The judge is away",
    "The report is made without it, and says so",
)
def test_a_judge_that_is_away_costs_no_report(run: Run, tmp_path: Path) -> None:
    with ChatServer(fault=lambda *_: "http 403").running() as server:
        result = run(evaluation_report, JOB, judge_url=server.url, judge_model="strict")
    assert result.success
    scored = TableStore(tmp_path).ref("evaluation_report", JOB).read()
    assert scored["truthfulness"].null_count() == scored.height
    assert "HTTP 403" in metadata(result, "evaluation_report")["judge"]["problem"]


def test_the_audit_says_what_the_questions_can_show(run: Run, tmp_path: Path) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text("intent: {attribute: 1, overview: 1}\n")
    result = run(evaluation_set_audit, None, shopper_mix=str(mix))
    assert result.success
    shown = metadata(result, "evaluation_set_audit")
    assert "of the set unseen" in shown["verdict"]
    assert shown["mix_plot"].count("data:image/png") == 3
    assert "data:image/png" in shown["power_plot"]
    against = {(r.data["dimension"], r.data["against"]) for r in shown["mix"].records}
    assert ("intent", "shoppers") in against
    assert {d for d, a in against if a == "assortment"} == {"department", "category", "subcategory"}
    groups = TableStore(tmp_path).ref("evaluation_set_audit").read()
    asked = groups.filter(dimension="intent", subset="unseen")["asked"].sum()
    assert asked > 0
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("questions_are_like_the_assortment", True)


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize(
    ("asset", "changes"),
    [
        (
            "judge",
            [
                {"RETAIL_JUDGE_URL": "http://127.0.0.1:1/v1", "RETAIL_JUDGE_MODEL": "strict"},
                {"RETAIL_JUDGE_MODEL": "kind"},
                {"RETAIL_JUDGE_SHEET": "dialogue_id,variant,truthfulness\n"},
                {"RETAIL_JUDGE_SHEET": "dialogue_id,variant,truthfulness\nq1,a,5\n"},
            ],
        ),
        (
            "shopper_mix",
            [
                {"RETAIL_SHOPPER_MIX": "intent: {attribute: 1}\n"},
                {"RETAIL_SHOPPER_MIX": "intent: {overview: 1}\n"},
            ],
        ),
    ],
)
def test_another_judge_or_mix_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asset: str, changes: list[dict[str, str]]
) -> None:
    look = dg.Definitions(
        [observed_judge, observed_shopper_mix], jobs=[dg.define_asset_job("look", asset)]
    ).resolve_job_def("look")
    versions = []
    with dg.DagsterInstance.ephemeral() as instance:
        for change in [{}, {}, *changes]:
            for name, value in change.items():
                if name.endswith(("SHEET", "MIX")):
                    (tmp_path / name).write_text(value)
                    monkeypatch.setenv(name, str(tmp_path / name))
                else:
                    monkeypatch.setenv(name, value)
            get_settings.cache_clear()
            assert look.execute_in_process(instance=instance).success
            (record,) = instance.fetch_observations(dg.AssetKey(asset), limit=1).records
            assert record.asset_observation is not None
            versions.append(record.asset_observation.data_version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 1 + len(changes)


def test_a_report_and_an_audit_say_of_which_judge_and_mix_they_were_made(
    run: Run, tmp_path: Path
) -> None:
    for asset, partition, watched in (
        (evaluation_report, JOB, "judge"),
        (evaluation_set_audit, None, "shopper_mix"),
    ):
        (event,) = run(asset, partition).asset_materializations_for_node(asset.op.name)
        assert f"dagster/input_data_version/{watched}" in (event.tags or {})
