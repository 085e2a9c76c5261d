"""Answering for several adapters at once: killed it goes on, and one that is no adapter is out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from retail_assistant.defs.answering import prediction_spec
from retail_assistant.defs.evaluation import predictions
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.partitions import REGISTRY, job_partitions, task_partitions
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.predict import evaluations_of, together
from retail_assistant.evaluation.shards import SHARD_ROWS
from retail_assistant.launch.command import write_spec
from retail_assistant.launch.ray_job import run_ray_job
from retail_assistant.launch.spec import (
    ArtefactRef,
    LaunchError,
    LaunchSpec,
    Resources,
    read_artefact_ref,
    read_manifest,
    write_artefact_ref,
)
from retail_assistant.launch.workload import Workload
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore
from retail_assistant.training.jobs import EVALUATED_TASK
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.evaluation.adapters import save_adapter
from retail_assistant_tests.training.trainings import small_corpus

QUESTIONS = 3 * SHARD_ROWS + 5
SHARDS = 4
JOBS = tuple(REGISTRY.of_task(EVALUATED_TASK))[:2]
SECONDS = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A base model, 197 questions, and an adapter for each of two jobs; settings that name it."""
    folder = tmp_path_factory.mktemp("predict") / "var"
    base = folder / "artefacts" / "base_model" / "tiny"
    base.mkdir(parents=True)
    (base / "model").symlink_to(tiny_model_folder)
    write_artefact_ref(ArtefactRef(folder=base, fingerprint="tiny"), folder, "base_model", None)
    TableStore(folder).write(questions(), "prompt_corpus", EVALUATED_TASK)
    for seed, job in enumerate(JOBS):
        keep_adapter(
            folder,
            job,
            save_adapter(tiny_model_folder, folder / "adapters" / job / "adapter", seed),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAIL_STORAGE_URI", str(folder))
        patch.setenv("RETAIL_DEVICES", "cpu")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        get_settings.cache_clear()
        yield folder
    get_settings.cache_clear()


def questions(many: int = QUESTIONS) -> pl.DataFrame:
    asked = small_corpus().filter(subset="recall")
    copies = [asked.with_columns(dialogue_id=pl.lit(f"q{number:04d}")) for number in range(many)]
    rows = pl.concat([small_corpus().filter(pl.col("subset") != "recall"), *copies])
    return rows.with_columns(answer=pl.col("completion").list.first().struct.field("content"))


def keep_adapter(storage: Path, job: str, adapter: Path) -> None:
    ref = ArtefactRef(folder=adapter.parent, fingerprint=f"adapter-of-{job}")
    write_artefact_ref(ref, storage, "adapter", job)


def spec_of(storage: Path, job: str, **changes: object) -> LaunchSpec:
    spec = prediction_spec(
        REGISTRY.evaluated_job(job),
        TableStore(storage).ref("prompt_corpus", EVALUATED_TASK),
        read_artefact_ref(storage, "base_model"),
        read_artefact_ref(storage, "adapter", job),
    )
    return spec.model_copy(update=changes)


def shards(spec: LaunchSpec) -> dict[Path, int]:
    """Answered shards, and when each was written."""
    found = spec.folder.glob("shards/*/*.parquet")
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.mark.fault(
    "a run that answers questions is killed",
    "the next one asks only what was not answered",
)
def test_killed_it_goes_on_and_all_jobs_of_a_run_share_one_engine(storage: Path) -> None:
    specs = [spec_of(storage, job) for job in JOBS]
    before = {path: at for spec in specs for path, at in killed(specs).items()}
    assert not [spec for spec in specs if read_manifest(spec.folder)]

    result = dg.materialize(
        [
            predictions,
            dg.AssetSpec("base_model"),
            dg.AssetSpec("adapter", partitions_def=job_partitions),
            dg.AssetSpec("prompt_corpus", partitions_def=task_partitions),
        ],
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        tags={
            "dagster/asset_partition_range_start": JOBS[0],
            "dagster/asset_partition_range_end": JOBS[-1],
        },
    )
    assert result.success
    after = shards(specs[0]) | shards(specs[1])
    assert len(after) == 2 * SHARDS
    assert before.items() <= after.items()

    manifests = [read_manifest(spec.folder) for spec in specs]
    assert all(manifests)
    asked = sum(one.metrics["questions_asked"] for one in manifests if one)
    kept = sum(pl.read_parquet(path).height for path in before)
    assert asked == 2 * QUESTIONS - kept
    launched, beside = sorted(spec.folder for spec in specs)
    log = (launched / "log.txt").read_text()
    assert log.count("Loading safetensors checkpoint shards: 100%") == 1
    assert not (beside / "log.txt").exists()
    check_tables(storage, specs)
    check_metadata(result)
    check_kept(storage, specs)


def killed(specs: list[LaunchSpec]) -> dict[Path, int]:
    """Kill -9 while the second job is answered; what was on disk then."""
    first = together(specs)
    first.folder.mkdir(parents=True, exist_ok=True)
    write_spec(first)
    command = [sys.executable, "-m", first.module, "--spec", str(first.folder / "spec.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while not shards(specs[1]) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    written = shards(specs[0]) | shards(specs[1])
    assert SHARDS < len(written) < 2 * SHARDS
    return written


def check_tables(storage: Path, specs: list[LaunchSpec]) -> None:
    """Each job's answers are its own."""
    answers = {}
    for job, spec in zip(JOBS, specs, strict=True):
        table = TableStore(storage).ref("predictions", job).read()
        assert table.equals(pl.read_parquet(spec.folder / "predictions.parquet"))
        assert table["dialogue_id"].to_list() == [f"q{number:04d}" for number in range(QUESTIONS)]
        assert table["variant"].unique().to_list() == [job]
        answers[job] = table["answer"].to_list()
    assert answers[JOBS[0]] != answers[JOBS[1]]


def check_metadata(result: dg.ExecuteInProcessResult) -> None:
    events = result.asset_materializations_for_node("predictions")
    assert {event.partition for event in events} == set(JOBS)
    assert len({event.metadata["fingerprint"].value for event in events}) == len(JOBS)
    for event in events:
        shown = event.metadata
        assert shown["parity_difference"].value < shown["parity_allowed"].value
        assert shown["parity_effect"].value > 0.01
        assert shown["engine"].value == "vllm on cpu"


def check_kept(storage: Path, specs: list[LaunchSpec]) -> None:
    """What is there is not asked again, whichever jobs are asked for beside it."""
    times = [spec.folder.stat().st_mtime_ns for spec in specs]
    alone = dg.materialize(
        [
            predictions,
            dg.AssetSpec("base_model"),
            dg.AssetSpec("adapter", partitions_def=job_partitions),
            dg.AssetSpec("prompt_corpus", partitions_def=task_partitions),
        ],
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        partition_key=JOBS[1],
    )
    (event,) = alone.asset_materializations_for_node("predictions")
    assert event.partition == JOBS[1]
    assert event.metadata["fingerprint"].value == specs[1].fingerprint
    assert [spec.folder.stat().st_mtime_ns for spec in specs] == times


def test_several_processes_of_a_ray_job_and_an_adapter_that_does_nothing(
    storage: Path, tmp_path: Path
) -> None:
    """Each process answers its shards; the good adapter gets its numbers, the other gets none."""
    (tmp_path / "vllm.py").write_text("raise ImportError('not for this machine')")
    base = read_artefact_ref(storage, "base_model").folder / "model"
    nothing = save_adapter(base, tmp_path / "nothing", 1, 0.0)
    few = SHARD_ROWS + 5
    corpus = TableStore(tmp_path).write(questions(few), "prompt_corpus")
    two = Resources(processes=2, memory_gib=1)
    good, no_op = (asked_of(spec_of(storage, job, resources=two), corpus) for job in JOBS)
    no_op = no_op.model_copy(update={"paths": {**no_op.paths, "adapter": nothing}})

    with pytest.raises(LaunchError, match=f"ParityError: {JOBS[1]} changes nothing"):
        run_ray_job(together([no_op, good]), {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"})
    assert read_manifest(no_op.folder) is None
    manifest = read_manifest(good.folder)
    assert manifest is not None
    assert manifest.metrics["processes"] == 2
    # The first process's: of the four shards every second one.
    assert manifest.metrics["questions_asked"] == SHARD_ROWS
    log = (no_op.folder / "log.txt").read_text()
    assert log.count("answering with hugging face generate") == 2
    answers = pl.read_parquet(good.folder / "predictions.parquet")
    assert answers["dialogue_id"].n_unique() == answers.height == few


def asked_of(spec: LaunchSpec, corpus: TableRef) -> LaunchSpec:
    """The same adapter, asked the questions of another corpus."""
    return spec.model_copy(
        update={
            "inputs": {**spec.inputs, "prompt_corpus": corpus.sha256},
            "paths": {**spec.paths, "prompt_corpus": corpus.path},
        }
    )


def test_what_cannot_share_an_engine_is_refused(storage: Path) -> None:
    one, other = (spec_of(storage, job) for job in JOBS)
    foreign = other.model_copy(update={"inputs": {**other.inputs, "base_model": "another"}})
    with pytest.raises(ValueError, match=r"base_model of .* is another; allowed beside"):
        evaluations_of(Workload(together([one, foreign]), None))
    with pytest.raises(ValueError, match="variants share a name"):
        evaluations_of(Workload(together([one, one]), None))
