"""Searches in Dagster: what the sensor asks for, and a search that really trains to its end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from retail_assistant.definitions import defs
from retail_assistant.defs.search import search_trials
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref, write_artefact_ref
from retail_assistant.storage import TableStore
from retail_assistant.training.searching.progress import RunningSearch, current_search
from retail_assistant.training.studies import load_registry
from retail_assistant_tests.training.searches import end_trial
from retail_assistant_tests.training.trainings import small_corpus

SEARCH = "rank-and-rate"
SECONDS = 600


@pytest.fixture(scope="module")
def graph() -> dg.Definitions:
    return defs()


@dataclass
class Bench:
    """The real graph on a storage folder with a corpus and a base model, and its sensor's looks."""

    graph: dg.Definitions
    instance: dg.DagsterInstance
    root: Path
    cursor: str | None = None

    def run(self, job: str, partition: str) -> dg.ExecuteInProcessResult:
        return self.graph.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False
        )

    def look(self) -> dict[str, list[str]]:
        """What the sensor requests now: partitions by job. Their partitions are added."""
        # As the daemon builds it: a context of `build_sensor_context` sees no dynamic partitions.
        with dg.SensorEvaluationContext(
            instance_ref=self.instance.get_ref(),
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=self.cursor,
            repository_name=None,
            definitions=self.graph,
        ) as context:
            tick = self.graph.resolve_sensor_def(search_trials.name).evaluate_tick(context)
        self.cursor = tick.cursor or self.cursor
        for added in tick.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(added.partitions_def_name, added.partition_keys)
        found: dict[str, list[str]] = {}
        for request in tick.run_requests or []:
            assert request.job_name
            assert request.partition_key
            found.setdefault(request.job_name, []).append(request.partition_key)
        return found

    @property
    def search(self) -> RunningSearch:
        running = current_search(self.root, SEARCH)
        assert running is not None
        return running


@pytest.fixture
def bench(
    graph: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> Iterator[Bench]:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    TableStore(tmp_path).write(small_corpus(), "prompt_corpus", "assistant")
    base_model = ArtefactRef(folder=tmp_path / "no-model", fingerprint="none")
    write_artefact_ref(base_model, tmp_path, "base_model", None)
    (tmp_path / "dagster").mkdir()
    quiet = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides=quiet) as instance:
        yield Bench(graph, instance, tmp_path)


def test_nothing_is_asked_for_before_a_search_has_begun(bench: Bench) -> None:
    assert bench.look() == {}


def test_a_search_begins_with_what_is_there(bench: Bench) -> None:
    assert bench.run("begin_search", SEARCH).success
    record = bench.search.record
    assert record.corpora == {"assistant": TableStore(bench.root).ref("prompt_corpus", "assistant")}
    assert record.base_model.fingerprint == "none"


def test_a_trial_is_asked_for_until_it_has_ended(bench: Bench) -> None:
    bench.run("begin_search", SEARCH)
    first = bench.look()
    (key,) = first["train_trial"]
    assert bench.look() == first
    (trial,) = bench.search.trials()
    end_trial(bench.root, trial, 0.5)
    after = bench.look()
    assert after["report_search"] == [SEARCH]
    (following,) = after["train_trial"]
    assert following != key
    # What was reported once is not reported again.
    assert bench.look() == {"train_trial": [following]}


def test_a_trial_whose_run_has_failed_makes_room_for_the_next(bench: Bench) -> None:
    bench.run("begin_search", SEARCH)
    (key,) = bench.look()["train_trial"]
    # Its base model is not there.
    assert not bench.run("train_trial", key).success
    (following,) = bench.look()["train_trial"]
    assert following != key
    failed, waiting = bench.search.outcomes()
    assert failed.trial.key == key
    assert "failure" in str(failed.reason)
    assert waiting.state == "waiting"


def test_a_search_that_a_terminal_drives_is_left_alone(bench: Bench) -> None:
    bench.run("begin_search", SEARCH)
    with bench.search.driving() as ours:
        assert ours
        assert bench.look() == {}
    assert list(bench.look()) == ["train_trial"]


def test_a_report_shows_trials_and_the_best_as_a_study(bench: Bench) -> None:
    bench.run("begin_search", SEARCH)
    for loss in (0.9, 0.4, 0.6):
        bench.look()
        end_trial(bench.root, bench.search.trials()[-1], loss)
    result = bench.run("report_search", SEARCH)
    assert result.success
    (event,) = result.asset_materializations_for_node("search_report")
    metadata = event.metadata
    assert metadata["finished"].value == metadata["trials"].value == 3
    assert metadata["best_trial"].value == bench.search.trials()[1].key
    assert metadata["best_eval_loss"].value == 0.4
    study = str(metadata["best_study"].value).removeprefix("```yaml\n").removesuffix("```")
    assert list(yaml.safe_load(study)["jobs"]) == [f"{SEARCH}-best"]
    assert "data:image/png" in str(metadata["by_trial"].value)
    assert TableStore(bench.root).ref("search_report", SEARCH).rows == 3


TINY_SEARCH = """
search: tiny-search
description: Two trials small enough for a test.
defaults: {lora_r: 4, lora_alpha: 8, max_seq_length: 256, sample_generations: 0}
space:
  learning_rate: {kind: float, low: 1.0e-4, high: 1.0e-2, log: true}
trials: 2
hours: 1
"""


@pytest.mark.slow
def test_a_search_trains_its_trials_from_a_terminal(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    """Begun, gone on with under a higher bound; the best is trained no second time."""
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "tiny.yaml").write_text(TINY_SEARCH)
    storage = tmp_path / "var"
    TableStore(storage).write(small_corpus(), "prompt_corpus", "assistant")

    shown: dict[str, Any]

    def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("RETAIL_")}
        return subprocess.run(
            [Path(sys.executable).parent / arguments[0], *arguments[1:]],
            env=kept
            | {
                "RETAIL_STORAGE_URI": str(storage),
                "RETAIL_STUDIES": str(studies),
                "RETAIL_BASE_MODEL": str(tiny_model_folder),
                "DAGSTER_HOME": str(storage / "dagster"),
                "OMP_NUM_THREADS": "1",
            }
            | settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def materialize(asset: str, *partition: str) -> None:
        module = ("-m", "retail_assistant.definitions")
        ended = call("dagster", "asset", "materialize", "--select", asset, *partition, *module)
        assert ended.returncode == 0, ended.stderr[-3000:]

    storage.joinpath("dagster").mkdir()
    materialize("base_model")
    shown = json.loads(call("retail-assistant", "jobs", "show", "base", "--json").stdout)
    assert shown["plan"]["processes"] == 1
    table = call("retail-assistant", "jobs", "show", "base", RETAIL_DEVICES="2 x 24 GiB")
    assert "on 2 x GPU" in table.stdout, table.stdout + table.stderr
    (studies / "tiny.yaml").write_text(TINY_SEARCH.replace("trials: 2", "trials: 1"))
    first = call("retail-assistant", "jobs", "search", "run", "tiny-search")
    assert first.returncode == 0, first.stdout + first.stderr
    (studies / "tiny.yaml").write_text(TINY_SEARCH)
    second = call("retail-assistant", "jobs", "search", "run", "tiny-search")
    assert second.returncode == 0, second.stdout + second.stderr
    shown = json.loads(
        call("retail-assistant", "jobs", "search", "show", "tiny-search", "--json").stdout
    )
    losses = [outcome["eval_loss"] for outcome in shown["outcomes"]]
    assert len(losses) == len(set(losses)) == 2
    assert shown["best_eval_loss"] == min(losses)
    assert shown["over"]

    best = storage / "best"
    best.mkdir()
    (best / "best.yaml").write_text(shown["best_study"])
    (job,) = load_registry(best).jobs
    (studies / "best.yaml").write_text(shown["best_study"])
    materialize("adapter", "--partition", job)
    trial = read_artefact_ref(storage, "trial_adapter", shown["best_trial"])
    assert read_artefact_ref(storage, "adapter", job) == trial
