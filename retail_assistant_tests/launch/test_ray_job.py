"""The Ray launcher on a real Ray: a job is submitted, followed, found again, stopped whole."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from retail_assistant.launch import ray_job
from retail_assistant.launch.ray_cluster import RAY_ADDRESS
from retail_assistant.launch.ray_head import JobServer, job_server
from retail_assistant.launch.ray_job import forwarded_environment, run_ray_job, submission
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Preempted, Resources
from retail_assistant_tests.launch.waiting import (
    SECONDS_TO_END,
    SECONDS_TO_START,
    lives,
    pids_of,
    wait_until,
)

MARK = "RETAIL_TEST_MARK"
MakeSpec = Callable[..., LaunchSpec]
Environment = dict[str, str]
TRAINING = {"distributed_type": "NO", "use_cpu": True, "num_processes": 1}
RUN_SPEC = """
import signal
import sys
from pathlib import Path
from retail_assistant.launch.ray_job import run_ray_job
from retail_assistant.launch.spec import LaunchSpec
signal.signal(signal.SIGINT, signal.default_int_handler)
spec = LaunchSpec.model_validate_json(Path(sys.argv[1]).read_text())
run_ray_job(spec, {"PYTHONPATH": sys.argv[2]})
"""


def test_resources_become_those_of_the_jobs_entry_point(sample_spec: MakeSpec) -> None:
    needs = Resources(processes=4, gpus=4, cpus=16, memory_gib=64)
    given = submission(sample_spec(resources=needs, accelerate=TRAINING), {"SOME": "thing"})
    assert given["entrypoint_num_gpus"] == 4
    assert given["entrypoint_num_cpus"] == 16
    assert given["entrypoint_memory"] == 64 * 2**30
    assert given["runtime_env"]["env_vars"]["SOME"] == "thing"
    assert "retail_assistant.launch.cluster_job" in given["entrypoint"]


def test_of_several_nodes_the_entry_point_takes_nothing(sample_spec: MakeSpec) -> None:
    needs = Resources(nodes=2, gpus=8, memory_gib=64)
    given = submission(sample_spec(resources=needs, accelerate=TRAINING), {})
    assert not [name for name in given if name.startswith("entrypoint_")]


def test_a_job_says_what_it_is_and_no_two_have_a_name(sample_spec: MakeSpec) -> None:
    one, two = submission(sample_spec(), {}), submission(sample_spec(), {})
    assert one["submission_id"] != two["submission_id"]
    assert sample_spec().fingerprint in one["metadata"].values()


@pytest.mark.fault(
    "Work is handed to Ray or Kubernetes, where anybody reads its description",
    "No secret stands in it; the cluster gives its own",
)
def test_secrets_and_what_is_of_this_machine_stay_here() -> None:
    given = {
        "RETAIL_SEED": "7",
        "RETAIL_GENERATOR_API_KEY": "sk-1",
        "RETAIL_MLFLOW_URI": "postgresql://mlflow:secret@db/mlflow",
        "RETAIL_LAUNCHER_PID": "1",
        "RETAIL_MLFLOW_UI": "http://127.0.0.1:5000",
        "HF_TOKEN": "hf_1",
        "PATH": "/bin",
    }
    assert forwarded_environment(given) == {
        "RETAIL_SEED": "7",
        "RETAIL_MLFLOW_UI": "http://127.0.0.1:5000",
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobServer]:
    """A Ray cluster of this machine that several launches use, as one at RAY_ADDRESS."""
    before = os.environ.pop(RAY_ADDRESS, None)
    with job_server() as server:
        yield server
    if before is not None:
        os.environ[RAY_ADDRESS] = before


@pytest.fixture
def at_cluster(cluster: JobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS and the header that lets in, as a person would set them."""
    monkeypatch.setenv(RAY_ADDRESS, cluster.address)
    monkeypatch.setenv("RAY_JOB_HEADERS", header_text(cluster))


def header_text(cluster: JobServer) -> str:
    name, value = next(iter(cluster.headers.items()))
    return f'{{"{name}": "{value}"}}'


@pytest.mark.slow
def test_a_job_runs_once_and_leaves_its_manifest(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(accelerate=TRAINING, resources=Resources(memory_gib=0.5))
    said: list[str] = []
    manifest = run_ray_job(spec, environment, said.append)
    assert manifest.metrics == {"characters": 11}
    assert run_ray_job(spec, environment) == manifest
    assert len((spec.folder / "runs.txt").read_text().splitlines()) == 1
    assert any("Ray job sample-" in line for line in said)


@pytest.mark.slow
def test_a_job_that_fails_says_why(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match="the shelf is empty") as caught:
        run_ray_job(sample_spec(orders="fail"), environment)
    assert not isinstance(caught.value, Preempted)
    assert str(caught.value).startswith("sample: the process failed with exit code 1. Log: ")
    with pytest.raises(Preempted, match="made room"):
        run_ray_job(sample_spec(orders="room"), environment)


@pytest.mark.fault(
    "a run that waits for a Ray job is interrupted",
    "the job and all its processes end",
)
@pytest.mark.slow
def test_an_interrupt_stops_the_job_and_all_its_processes(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment, tmp_path: Path
) -> None:
    spec = sample_spec(orders="save")
    launcher = start(spec, environment, tmp_path)
    pids = pids_of(spec.folder)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    assert (spec.folder / "saved.txt").read_text() == "saved"
    assert not any(map(lives, pids))


@pytest.mark.fault(
    "the launcher of a Ray job is killed",
    "the next run finds the job and waits for it",
)
@pytest.mark.slow
@pytest.mark.fault(
    "The launcher of a Ray job is killed",
    "The job goes on, and the next launcher finds it",
)
def test_a_job_whose_launcher_was_killed_is_found_again(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment, tmp_path: Path
) -> None:
    spec = sample_spec(tracking={"seconds": "25"})
    launcher = start(spec, environment, tmp_path, lingers=False)
    launcher.kill()
    launcher.wait()
    assert run_ray_job(spec, environment).metrics == {"characters": 11}
    assert len((spec.folder / "runs.txt").read_text().splitlines()) == 1


@pytest.mark.slow
def test_without_an_address_a_cluster_comes_and_goes(
    sample_spec: MakeSpec, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RAY_ADDRESS, raising=False)
    # Other tests may run a Ray of their own at the same time.
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    with job_server():
        assert ray_processes(mark)
    assert not ray_processes(mark)
    manifest = run_ray_job(sample_spec(), environment)
    assert manifest.metrics == {"characters": 11}
    assert not ray_processes(mark)


@pytest.mark.slow
@pytest.mark.long_fault
@pytest.mark.fault(
    "The head of the Ray cluster is killed while a job works",
    "The error says that it does not answer; no process is left, and run again it is done",
)
def test_a_killed_head_ends_the_run_and_its_processes(
    sample_spec: MakeSpec, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RAY_ADDRESS, raising=False)
    monkeypatch.setattr(ray_job, "SECONDS_WITHOUT_ANSWER", 5.0)
    monkeypatch.setenv(MARK, mark := uuid.uuid4().hex)
    spec = sample_spec(orders="linger")
    with job_server() as server, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv(RAY_ADDRESS, server.address)
        monkeypatch.setenv("RAY_JOB_HEADERS", header_text(server))
        run = pool.submit(run_ray_job, spec, environment)
        wait_until(lambda: bool(pids_of(spec.folder)), SECONDS_TO_START, "the job's start")
        pids = pids_of(spec.folder)
        for pid in ray_processes(mark):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(LaunchError, match=r"does not answer .* may still be running"):
            run.result(SECONDS_TO_END)
        wait_until(lambda: not any(map(lives, pids)), SECONDS_TO_END, "the end of all processes")
    monkeypatch.delenv(RAY_ADDRESS)
    assert run_ray_job(sample_spec(), environment).metrics == {"characters": 11}


@pytest.mark.slow
@pytest.mark.long_fault
@pytest.mark.fault(
    "The Ray worker that holds a job is killed",
    "The work counts as having made room: it is tried again, and no process is left",
)
def test_a_killed_worker_made_room(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(orders="linger")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_ray_job, spec, environment)
        wait_until(lambda: bool(pids_of(spec.folder)), SECONDS_TO_START, "the job's start")
        pids = pids_of(spec.folder)
        above = psutil.Process(pids[0]).parents()
        next(one for one in above if "JobSupervisor" in " ".join(one.cmdline())).kill()
        with pytest.raises(Preempted):
            run.result(SECONDS_TO_END)
    wait_until(lambda: not any(map(lives, pids)), SECONDS_TO_END, "the end of all processes")
    assert run_ray_job(sample_spec(), environment).metrics == {"characters": 11}


def ray_processes(mark: str) -> set[int]:
    """Processes of Ray that were started with a mark in their environment."""
    found = set()
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            ours = process.environ().get(MARK) == mark
            if ours and process.info["name"] in ("raylet", "gcs_server"):
                found.add(process.pid)
    return found


@pytest.mark.fault(
    "No Ray cluster is where RAY_ADDRESS says",
    "One line says so, without a stack",
)
def test_an_address_where_nobody_is_fails_clearly(
    sample_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RAY_ADDRESS, "http://127.0.0.1:1")
    with pytest.raises(LaunchError, match=r"sample: no Ray cluster at RAY_ADDRESS=http://127"):
        run_ray_job(sample_spec())


def start(
    spec: LaunchSpec, environment: Environment, tmp_path: Path, *, lingers: bool = True
) -> subprocess.Popen[bytes]:
    """A launcher in a process of its own, its job in full swing."""
    (tmp_path / "started.json").write_text(spec.model_dump_json())
    launcher = subprocess.Popen(
        [sys.executable, "-c", RUN_SPEC, str(tmp_path / "started.json"), environment["PYTHONPATH"]],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    )
    wait_until(
        lambda: bool(pids_of(spec.folder)) if lingers else (spec.folder / "runs.txt").exists(),
        SECONDS_TO_START,
        "the job's start",
    )
    return launcher
