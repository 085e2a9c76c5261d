"""More at once than anybody needs: jobs in a queue, and partitions by the thousand."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml

from retail_assistant.storage import write_atomically
from retail_assistant.training.searching.progress import TRIAL_ASSET, RunningSearch
from retail_assistant_tests.families import family_of
from retail_assistant_tests.integration.line import Line
from retail_assistant_tests.integration.test_cancel import (
    LOCATION,
    Place,
    line_with_inputs,
    serving,
)
from retail_assistant_tests.launch.waiting import wait_until
from retail_assistant_tests.training.searches import (
    BEGUN,
    begun,
    end_trial,
    loss_at,
    search_content,
    search_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(1800)]

JOBS = [f"queued-{number}" for number in range(10)]
QUEUE = f"""
study: queue
description: Ten jobs at once.
defaults:
  lora_r: 4
  lora_alpha: 8
  learning_rate: 1.0e-3
  evaluations: 0
  sample_generations: 0
jobs:
{"".join(f"  {job}: {{seed: {number}}}" + chr(10) for number, job in enumerate(JOBS))}
"""
SECONDS = 1500
RUNS_AT_ONCE = 4
"""`max_concurrent_runs` of the project's own instance."""

MOST_BYTES = 6 * 2**30
TRIALS = 1000
PARTITIONS = """
query { assetNodeOrError(assetKey: {path: ["trial_adapter"]}) { ... on AssetNode {
  partitionKeys
  partitionStats { numPartitions numMaterialized }
} } }
"""
SENSOR = """
query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { status ticks(limit: 5) { timestamp status error { message } } }
} } }
"""


def spans(place: Place, runs: list[str], first: str, last: str) -> list[tuple[float, float]]:
    """When an event of each run came, and when another, in order."""
    with place.line.instance() as instance:
        logs = {run: instance.all_logs(run) for run in runs}
    found = []
    for entries in logs.values():
        told = [(e.dagster_event.event_type_value, e.timestamp) for e in entries if e.dagster_event]
        begun_at = next(when for kind, when in told if kind == first)
        found.append((begun_at, next(when for kind, when in told if kind == last)))
    return sorted(found)


def most_at_once(found: list[tuple[float, float]]) -> int:
    """How many of some spans lie over each other at most."""
    edges = [(start, 1) for start, _ in found] + [(end, -1) for _, end in found]
    level = most = 0
    for _, step in sorted(edges):
        level += step
        most = max(most, level)
    return most


def resident_bytes() -> int:
    """Of all processes that came of this one."""
    total = 0
    for process, _ in family_of(psutil.Process()):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


@pytest.mark.fault(
    "Ten trainings are queued at once on a small machine",
    "All finish, one training at a time, in bounded memory, and the UI answers",
)
def test_ten_queued_trainings_all_finish(tiny_model_folder: Path, tmp_path: Path) -> None:
    line = line_with_inputs(tmp_path, tiny_model_folder, QUEUE)
    with serving(line) as place:
        runs = [place.materialize(job) for job in JOBS]
        peaks: list[int] = []

        def are_over() -> bool:
            assert place.ask(LOCATION)["repositoriesOrError"]["nodes"]
            peaks.append(resident_bytes())
            time.sleep(1)
            return all(place.run(run).is_finished for run in runs)

        wait_until(are_over, SECONDS, "the end of ten runs")
        ended = {run: place.run(run).status for run in runs}
        assert set(ended.values()) == {dg.DagsterRunStatus.SUCCESS}, ended
        assert {line.adapter(job).manifest().metrics["steps"] for job in JOBS} == {3}
        trainings = spans(place, runs, "STEP_START", "STEP_SUCCESS")
        at_once = spans(place, runs, "PIPELINE_START", "PIPELINE_SUCCESS")
    print(f"\nat most {max(peaks) / 2**30:.1f} GiB, {most_at_once(at_once)} runs at once")
    assert most_at_once(trainings) == 1
    assert most_at_once(at_once) <= RUNS_AT_ONCE
    assert max(peaks) < MOST_BYTES


def thousand_trials(line: Line) -> RunningSearch:
    """A search whose thousand trials have ended, and whose time is over."""
    running = begun(line.storage, search_of(trials=TRIALS))
    (first,) = running.propose(BEGUN)[:1]
    folder = running.ref.folder / "trials"
    content = json.loads((folder / "0000.json").read_text())
    start = first.key.removesuffix("000")
    for number in range(TRIALS):
        content |= {"number": number, "job": content["job"] | {"name": f"{start}{number:03d}"}}
        write_atomically(folder / f"{number:04d}.json", json.dumps(content), durable=False)
    for trial in running.trials():
        end_trial(line.storage, trial, loss_at(trial) + trial.number)
    return running


def add_partitions(line: Line, keys: list[str]) -> None:
    with line.instance() as instance:
        instance.add_dynamic_partitions("trial", keys)
        for key in keys:
            made = dg.AssetMaterialization(TRIAL_ASSET, partition=key)
            instance.report_runless_asset_event(made)


def ticks_after(place: Place, sensor: str, moment: float) -> Iterator[dict[str, Any]]:
    """A sensor's finished ticks that began after a moment."""
    (node,) = place.ask(LOCATION)["repositoriesOrError"]["nodes"]
    selector = {
        "repositoryName": node["name"],
        "repositoryLocationName": node["location"]["name"],
        "sensorName": sensor,
    }
    state = place.ask(SENSOR, selector=selector)["sensorOrError"]["sensorState"]
    for tick in state["ticks"]:
        if tick["timestamp"] > moment and tick["status"] != "STARTED":
            yield tick


@pytest.mark.fault(
    "A search has a thousand trials, each a partition",
    "The UI lists them, its sensor goes on looking, and the report is made",
)
def test_a_thousand_partitions_keep_the_ui_and_sensors_answering(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    line = line_with_inputs(tmp_path, tiny_model_folder, QUEUE)
    write_atomically(line.studies / "search.yaml", yaml.safe_dump(search_content(trials=TRIALS)))
    with serving(line) as place:
        running = thousand_trials(line)
        keys = [trial.key for trial in running.trials()]
        add_partitions(line, keys)
        moment = time.time()
        found = place.ask(PARTITIONS)["assetNodeOrError"]
        assert found["partitionKeys"] == keys
        assert found["partitionStats"] == {"numPartitions": TRIALS, "numMaterialized": TRIALS}
        wait_until(
            lambda: any(ticks_after(place, "search_trials", moment)), SECONDS, "the sensor's look"
        )
        ticks = list(ticks_after(place, "search_trials", moment))
        assert [tick for tick in ticks if tick["status"] == "FAILURE"] == []

        def report() -> dg.DagsterRun | None:
            with line.instance() as instance:
                of_report = dg.RunsFilter(job_name="report_search")
                return next(iter(instance.get_runs(of_report)), None)

        wait_until(lambda: (run := report()) is not None and run.is_finished, SECONDS, "the report")
        run = report()
        assert run is not None
        assert run.status is dg.DagsterRunStatus.SUCCESS, place.told(run.run_id)[-3000:]
