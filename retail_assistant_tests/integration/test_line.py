"""The whole graph on real components: what a run leaves behind, and what a second one does not."""

import re
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.definitions import defs
from retail_assistant.evaluation.baselines import ALL_BASELINES
from retail_assistant.evaluation.predict import evaluation_questions
from retail_assistant.evaluation.promotion import LIMITS
from retail_assistant.launch.spec import read_manifest
from retail_assistant.storage import TableStore
from retail_assistant_tests.integration.line import JOBS, TINY_STUDY, FinishedLine

pytestmark = pytest.mark.slow

PARTITIONS = {
    "prompt_corpus": {"assistant"},
    "training_plan": set(JOBS),
    "adapter": set(JOBS),
    "predictions": set(JOBS),
    "evaluation_report": set(JOBS),
}
SEARCHES = {"hyperparameter_search", "trial_adapter", "search_report"}
CLASSIFIERS = {
    "labelled_texts",
    "rejected_labelled_texts",
    "classification_baseline",
    "classifications",
    "classification_report",
    "label_quality",
}
OF_A_CHAMPION = {
    "champion",
    "champion_journeys",
    "deployment_bundle",
    "shopper_feedback",
    "feedback_candidates",
    "answered_questions",
}
"""A model of random weights passes no rule of the promotion policy."""
NEVER_MADE = {"product_images", "merged_model", *OF_A_CHAMPION, *SEARCHES, *CLASSIFIERS}
"""The others are on demand."""
OBSERVED = {
    "raw_catalog",
    "catalog_profile",
    "store_knowledge",
    "labelled_text_file",
    "base_model_source",
    "promotion_policy",
    "judge",
    "shopper_mix",
}
ANSWERED = ("baseline_predictions", "predictions", "champion_predictions")
MAY_BE_EMPTY = ("rejected_", "unwritten_", "catalog_changes", "champion_")
NAMING_ATTRIBUTES = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
STYLE_REFERENCE = re.compile(r"""(?:url\(|@import )["']?([^"')]+)""")
FIRST_RUN_SECONDS = 600
SECOND_RUN_SECONDS = 120


def test_everything_succeeds_but_the_promotion_of_a_random_model(
    finished_line: FinishedLine,
) -> None:
    first = finished_line.first
    assert first.code == 1
    assert "model_comparison: nothing is promoted: tiny-closed-book: " in first.words
    assert "Traceback" not in first.words
    with finished_line.instance() as instance:
        ended = [
            (run.job_name, run.tags.get("dagster/partition"), run.status.value)
            for run in reversed(instance.get_runs())
        ]
    assert ended[:10] == [
        ("observe_catalog", None, "SUCCESS"),
        ("prepare", None, "SUCCESS"),
        ("render_prompts", "assistant", "SUCCESS"),
        *(("train_and_evaluate", job, "SUCCESS") for job in JOBS),
        ("train_and_evaluate", None, "SUCCESS"),
        ("answer_baselines", None, "SUCCESS"),
        *(("train_and_evaluate", job, "SUCCESS") for job in JOBS),
        ("compare_and_promote", None, "FAILURE"),
    ]
    assert first.seconds < FIRST_RUN_SECONDS


def test_every_asset_is_materialized(finished_line: FinishedLine) -> None:
    names = {spec.key.to_user_string() for spec in defs().resolve_all_asset_specs()}
    with finished_line.instance() as instance:
        made = {name for name in names if _materialization(instance, name) is not None}
        observed = instance.fetch_observations(dg.AssetKey("raw_catalog"), limit=1).records
        partitions = {
            name: instance.get_materialized_partitions(dg.AssetKey(name)) for name in PARTITIONS
        }
    assert made == names - OBSERVED - NEVER_MADE
    assert observed[0].asset_observation.data_version
    for name, wanted in PARTITIONS.items():
        assert wanted <= partitions[name]


def test_tables_show_their_rows_and_columns(finished_line: FinishedLine) -> None:
    store = TableStore(finished_line.storage)
    tables = sorted(path.name for path in store.root.iterdir())
    assert len(tables) == 18
    with finished_line.instance() as instance:
        for name in tables:
            for partition in store.partitions(name) or [None]:
                shown = _materialization(instance, name, partition).metadata
                frame = store.ref(name, partition).read()
                columns = [column.name for column in shown["dagster/column_schema"].value.columns]
                assert shown["dagster/row_count"].value == frame.height
                assert columns == frame.columns
                assert frame.height > 0 or name.startswith(MAY_BE_EMPTY)


def test_every_check_ran_and_only_the_policys_limits_failed(finished_line: FinishedLine) -> None:
    checks = defs().resolve_asset_graph().asset_check_keys
    wanted = {key for key in checks if key.asset_key.to_user_string() not in NEVER_MADE}
    with finished_line.instance() as instance:
        records = instance.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION), limit=500
        )
    events = [record.event_log_entry.dagster_event for record in records]
    evaluations = [event.asset_check_evaluation_data for event in events]
    assert {evaluation.asset_check_key for evaluation in evaluations} == wanted
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    # A model of random weights is right by chance at most.
    assert "min_strict_accuracy" in failed
    assert failed <= set(LIMITS)


def test_every_question_is_answered_by_every_variant(finished_line: FinishedLine) -> None:
    store = TableStore(finished_line.storage)
    # One engine has answered for all: the artefact that was launched has its log.
    artefacts = finished_line.storage / "artefacts"
    logs = [log for name in ANSWERED for log in artefacts.glob(f"{name}/*/log.txt")]
    assert len(logs) == 1
    corpus = store.ref("prompt_corpus", "assistant").read()
    asked = evaluation_questions(corpus).select("dialogue_id")
    assert asked.height > 0
    variants = {job: store.ref("predictions", job).read() for job in JOBS}
    baselines = store.ref("baseline_predictions").read()
    variants |= {name: rows for (name,), rows in baselines.group_by("variant")}
    assert set(variants) == {*JOBS, *ALL_BASELINES}
    for name, rows in variants.items():
        assert sorted(rows["dialogue_id"]) == sorted(asked["dialogue_id"]), name
        assert rows["finish_reason"].is_in(["stop", "length"]).all()


class _References(HTMLParser):
    """Everything that a page's markup and styles name for a browser to fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            if name == "style":
                self.handle_data(value or "", of_style=True)
            elif name in NAMING_ATTRIBUTES:
                self.found.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str, *, of_style: bool = False) -> None:
        if self._in_style or of_style:
            self.found += STYLE_REFERENCE.findall(data)


def test_the_report_needs_no_other_file_and_no_network(finished_line: FinishedLine) -> None:
    html = finished_line.report().read_text()
    assert "<svg" in html or "data:image" in html
    assert all(job in html for job in JOBS)
    foreign = [found for found in _References(html).found if not found.startswith(("#", "data:"))]
    assert not foreign


def test_the_comparison_is_strict_json_with_every_variant(finished_line: FinishedLine) -> None:
    document = finished_line.comparison()
    assert {*JOBS, *ALL_BASELINES} == set(document["variants"])
    assert {row["variant"] for row in document["tests"]} == set(JOBS)
    printed = finished_line.call("report", "--json")
    assert printed.code == 0
    assert (
        printed.output.strip()
        == finished_line.report().with_name("comparison.json").read_text().strip()
    )


def test_mlflow_and_dagster_name_each_other(finished_line: FinishedLine) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished_line.storage}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("retail_assistant/tiny").experiment_id
    for job in JOBS:
        metrics = finished_line.adapter(job).manifest().metrics
        run = client.get_run(metrics["mlflow_run_id"])
        assert (run.info.status, run.info.experiment_id) == ("FINISHED", experiment)
        assert (run.data.tags["job"], run.data.tags["study"]) == (job, "tiny")
        assert run.data.params["lora_r"] == "4"
        losses = client.get_metric_history(run.info.run_id, "loss")
        assert len({point.step for point in losses}) == len(losses) > 1
        with finished_line.instance() as instance:
            traced = instance.get_run_by_id(run.data.tags["dagster_run_id"])
            shown = _materialization(instance, "adapter", job).metadata
        assert (traced.job_name, traced.tags["dagster/partition"]) == ("train_and_evaluate", job)
        assert shown["mlflow_run"].value.endswith(
            f"/#/experiments/{experiment}/runs/{run.info.run_id}"
        )


def test_a_second_run_does_no_heavy_work_again(finished_line: FinishedLine) -> None:
    before, report = finished_line.artefacts(), finished_line.report()
    second = finished_line.run(*JOBS)
    print(f"\nsecond run of the whole graph: {second.seconds:.0f} s")
    assert second.code == 1
    assert "nothing is promoted" in second.words
    assert finished_line.artefacts() == before
    assert finished_line.report() == report
    assert second.seconds < SECOND_RUN_SECONDS


def test_a_changed_hyperparameter_makes_a_new_adapter_and_keeps_the_old_one(
    finished_line: FinishedLine, tmp_path: Path
) -> None:
    old = finished_line.adapter("tiny-grounded")
    before = finished_line.artefacts()
    edited = TINY_STUDY.replace("lora_r: 4", "lora_r: 2")
    changed = finished_line.with_studies(tmp_path / "studies", tiny=edited)
    assert changed.start_training("tiny-grounded").wait(timeout=FIRST_RUN_SECONDS) == 0
    new = changed.adapter("tiny-grounded")
    try:
        assert set(finished_line.artefacts()) - set(before) == {str(new.folder)}
        assert new.manifest().config["hyperparameters"]["lora_r"] == 2
        assert read_manifest(old.folder, verify=True) is not None
        assert before.items() <= finished_line.artefacts().items()
    finally:
        assert finished_line.start_training("tiny-grounded").wait(FIRST_RUN_SECONDS) == 0
    assert finished_line.adapter("tiny-grounded") == old


def _materialization(
    instance: dg.DagsterInstance, name: str, partition: str | None = None
) -> dg.AssetMaterialization | None:
    wanted = dg.AssetRecordsFilter(
        dg.AssetKey(name), asset_partitions=None if partition is None else [partition]
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None
