"""The local launcher on real processes: done once, failed clearly, ended whole."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retail_assistant.launch.local import LOG_NAME, how_it_ended, run_local
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    LaunchError,
    LaunchSpec,
    Preempted,
    Resources,
    read_manifest,
)
from retail_assistant.launch.workload import LAUNCHER_PID
from retail_assistant_tests.evaluation.manifests import finished
from retail_assistant_tests.launch.waiting import (
    SECONDS_TO_END,
    SECONDS_TO_START,
    lives,
    pids_of,
    wait_until,
)

MakeSpec = Callable[..., LaunchSpec]
Environment = dict[str, str]
ONE_PROCESS = {"distributed_type": "NO", "use_cpu": True, "num_processes": 1, "num_machines": 1}
TWO_PROCESSES = {
    **ONE_PROCESS,
    "distributed_type": "MULTI_GPU",
    "num_processes": 2,
    "main_process_port": 0,
}
RUN_SPEC = """
import signal
import sys
from pathlib import Path
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec
# Started in the background of a shell, a process would inherit that interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
run_local(LaunchSpec.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def runs(spec: LaunchSpec) -> int:
    return len((spec.folder / "runs.txt").read_text().splitlines())


def test_a_workload_leaves_a_manifest(sample_spec: MakeSpec, environment: Environment) -> None:
    spec = sample_spec()
    manifest = run_local(spec, environment)
    assert manifest == read_manifest(spec.folder)
    assert manifest.fingerprint == spec.fingerprint
    assert manifest.inputs == spec.inputs
    assert manifest.config == spec.config
    assert manifest.metrics == {"characters": 11}
    assert manifest.path(spec.folder, "text").read_text() == "a good text"
    assert manifest.started <= manifest.finished
    assert manifest.host["cpus"] >= 1
    assert "polars" in manifest.packages


def test_finished_work_is_kept(sample_spec: MakeSpec, environment: Environment) -> None:
    first = run_local(sample_spec(), environment)
    again = run_local(sample_spec(orders="fail"), environment)
    assert again == first
    assert runs(sample_spec()) == 1


@pytest.mark.fault(
    "A file of an artefact is altered, cut off or emptied",
    "The artefact counts as not made, and is made again",
)
def test_a_damaged_artefact_is_made_again(sample_spec: MakeSpec, environment: Environment) -> None:
    spec = sample_spec()
    first = run_local(spec, environment)
    first.path(spec.folder, "text").write_text("tampered!!!")
    assert read_manifest(spec.folder) is None
    again = run_local(spec, environment)
    assert again.outputs == first.outputs
    assert runs(spec) == 2


@pytest.mark.fault(
    "a bit of an artefact flips before heavy work reads it",
    "the work ends before it begins, and says which file and what to make again",
)
def test_an_altered_input_is_not_worked_with(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    folder = sample_spec().root / "artefacts" / "adapter" / "print"
    finished(folder, {"adapter/weights": b"weights"}, {}, {})
    weights = folder / "adapter" / "weights"
    spec = sample_spec(inputs={"adapter": "print"}, paths={"adapter": weights.parent})
    weights.write_bytes(b"weightr")
    told = "adapter/weights was altered or truncated; materialize adapter again"
    with pytest.raises(LaunchError, match=told):
        run_local(spec, environment)
    assert not (spec.folder / "runs.txt").exists()
    weights.write_bytes(b"weights")
    run_local(spec, environment)
    assert runs(spec) == 1


def test_other_inputs_leave_the_old_artefact(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    old, new = sample_spec(), sample_spec(inputs={"source": "v2"})
    run_local(old, environment)
    run_local(new, environment)
    assert old.folder != new.folder
    assert read_manifest(old.folder) is not None
    assert read_manifest(new.folder) is not None


def test_a_failure_shows_the_end_of_its_log(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(orders="fail")
    with pytest.raises(LaunchError) as caught:
        run_local(spec, environment)
    message = str(caught.value)
    assert message.startswith("sample: the process failed with exit code 1. Log: ")
    assert str(spec.folder / LOG_NAME) in message
    assert message.endswith("ValueError: the shelf is empty")
    assert read_manifest(spec.folder) is None


def test_success_without_a_manifest_is_a_failure(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match="ended without leaving a manifest"):
        run_local(sample_spec(orders="vanish"), environment)


def test_a_module_that_does_not_exist_is_a_failure(sample_spec: MakeSpec) -> None:
    with pytest.raises(LaunchError, match=r"No module named retail_assistant\.nothing"):
        run_local(sample_spec(module="retail_assistant.nothing"))


@pytest.mark.fault(
    "heavy work is killed with half of its output written",
    "the run says by which signal; nothing counts as done, and the next run does it",
)
def test_a_killed_workload_is_not_done_and_runs_again(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(orders="half")
    with pytest.raises(LaunchError, match=r"killed by SIGKILL .*materialize again to continue"):
        run_local(spec, environment)
    assert (spec.folder / "text.txt").read_text() == "half"
    assert not (spec.folder / MANIFEST_NAME).exists()
    manifest = run_local(sample_spec(), environment)
    assert manifest.path(spec.folder, "text").read_text() == "a good text"


@pytest.mark.fault(
    "the repair of a damaged artefact is killed",
    "the old manifest vouches for nothing any more",
)
def test_a_repair_that_is_killed_leaves_no_old_manifest(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec()
    run_local(spec, environment).path(spec.folder, "text").unlink()
    with pytest.raises(LaunchError, match="SIGKILL"):
        run_local(sample_spec(orders="half"), environment)
    with pytest.raises(LaunchError, match="not a finished artefact"):
        ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint).manifest()


def test_the_reason_is_of_this_run_not_of_the_one_before(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match="the shelf is empty"):
        run_local(sample_spec(orders="fail"), environment)
    with pytest.raises(LaunchError, match="SIGKILL") as caught:
        run_local(sample_spec(orders="die"), environment)
    assert "the shelf is empty" not in str(caught.value)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "subprocess.CalledProcessError: Command '['python', '-m', 'x']' died with"
            " <Signals.SIGKILL: 9>.",
            "the process was killed by SIGKILL (out of memory, or killed by hand);"
            " materialize again to continue",
        ),
        (
            "  exitcode  : -11 (pid: 7)\n  traceback : Signal 11 (SIGSEGV) received by PID 7",
            "the process was killed by SIGSEGV; materialize again to continue",
        ),
        ("ValueError: the shelf is empty", "the process failed with exit code 1"),
        ("", "the process failed with exit code 1"),
    ],
)
def test_a_wrapper_that_lost_its_child_tells_how(log: str, reason: str) -> None:
    assert how_it_ended(1, log) == reason


@pytest.mark.fault(
    "The kernel kills a process that takes too much memory",
    "The error says so, and how much was planned; run again it goes on",
)
def test_a_kill_is_told_with_the_memory_that_was_planned(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match=r"out of memory, .*; up to 1\.5 GiB were planned\)"):
        run_local(sample_spec(orders="die", resources=Resources(memory_gib=1.5)), environment)
    assert run_local(sample_spec(), environment).metrics == {"characters": 11}


def test_a_kill_under_accelerate_is_named(sample_spec: MakeSpec, environment: Environment) -> None:
    with pytest.raises(LaunchError) as caught:
        run_local(sample_spec(orders="die", accelerate=ONE_PROCESS), environment)
    reason = str(caught.value).partition(". Log:")[0]
    assert "killed by SIGKILL" in reason
    assert "materialize again to continue" in reason


Started = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path, environment: Environment) -> Iterator[Started]:
    """start(spec, ranks=1): a launcher in a process of its own, its workload in full swing."""
    launchers: list[subprocess.Popen[bytes]] = []
    folders: list[Path] = []

    def begin(spec: LaunchSpec, ranks: int = 1) -> subprocess.Popen[bytes]:
        (tmp_path / "started.json").write_text(spec.model_dump_json())
        launcher = subprocess.Popen(
            [sys.executable, "-c", RUN_SPEC, str(tmp_path / "started.json")],
            env=_environment(environment),
            stderr=subprocess.DEVNULL,
        )
        launchers.append(launcher)
        folders.append(spec.folder)
        wait_until(lambda: len(pids_of(spec.folder)) == 2 * ranks, SECONDS_TO_START, "start")
        return launcher

    yield begin
    for launcher in launchers:
        launcher.kill()
        launcher.wait()
    for pid in (pid for folder in folders for pid in pids_of(folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def lingering(sample_spec: MakeSpec, start: Started) -> tuple[LaunchSpec, subprocess.Popen[bytes]]:
    """A launcher in a process of its own, on a workload that has a child and does not end."""
    spec = sample_spec(orders="linger")
    return spec, start(spec)


def _environment(more: Mapping[str, str]) -> Environment:
    return {**os.environ, **more}


@pytest.mark.fault(
    "a run that does heavy work is killed, told to end or interrupted",
    "all its processes end, and nothing counts as done",
)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_ends_the_workload_and_its_children(
    lingering: tuple[LaunchSpec, subprocess.Popen[bytes]], how: signal.Signals
) -> None:
    """Also where nobody waits for the dead launcher, which stays a zombie here."""
    spec, launcher = lingering
    pids = pids_of(spec.folder)
    assert all(lives(pid) for pid in pids)
    launcher.send_signal(how)
    wait_until(lambda: not any(map(lives, pids)), SECONDS_TO_END, "the end of all processes")
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    assert read_manifest(spec.folder) is None


def test_a_killed_workload_takes_its_children_along(
    lingering: tuple[LaunchSpec, subprocess.Popen[bytes]],
) -> None:
    spec, launcher = lingering
    workload, child = pids_of(spec.folder)
    os.kill(workload, signal.SIGKILL)
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    wait_until(lambda: not lives(child), SECONDS_TO_END, "the end of the child")


@pytest.mark.fault(
    "two runs make one artefact at once",
    "the second waits, finds the work done and does not do it again",
)
def test_twins_take_turns_and_the_second_finds_the_work_done(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(tracking={"seconds": "1"})
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda one: run_local(one, environment), [spec, spec])
    assert first == second
    assert runs(spec) == 1


def test_a_workload_whose_launcher_is_gone_does_not_begin(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises(LaunchError, match=rf"the launcher \(process {gone.pid}\) is gone"):
        run_local(sample_spec(), {**environment, LAUNCHER_PID: str(gone.pid)})
    assert not (sample_spec().folder / "runs.txt").exists()


def test_an_artefact_may_move_with_its_storage(
    sample_spec: MakeSpec, environment: Environment, tmp_path: Path
) -> None:
    spec = sample_spec()
    run_local(spec, environment)
    shutil.move(tmp_path / "storage", tmp_path / "moved")
    moved = sample_spec(root=tmp_path / "moved")
    run_local(moved, environment)
    assert runs(moved) == 1


@pytest.mark.parametrize("orders", ["room", "terminated"])
def test_a_workload_that_made_room_may_go_on(
    sample_spec: MakeSpec, environment: Environment, orders: str
) -> None:
    with pytest.raises(Preempted, match=r"SIGTERM.*materialize again to continue"):
        run_local(sample_spec(orders=orders), environment)
    assert run_local(sample_spec(), environment).metrics == {"characters": 11}


def test_room_made_under_a_wrapper_is_known(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    """`accelerate launch` exits with 1 whatever its child's exit code is."""
    with pytest.raises(Preempted):
        run_local(sample_spec(orders="room", accelerate=ONE_PROCESS), environment)
    with pytest.raises(LaunchError, match="the shelf is empty") as caught:
        run_local(sample_spec(orders="fail", accelerate=ONE_PROCESS), environment)
    assert not isinstance(caught.value, Preempted)


def test_a_cancelled_workload_has_time_to_save_and_none_is_left(
    sample_spec: MakeSpec, start: Started
) -> None:
    spec = sample_spec(orders="save")
    launcher = start(spec)
    pids = pids_of(spec.folder)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    assert (spec.folder / "saved.txt").read_text() == "saved"
    assert not any(map(lives, pids))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_every_rank_ends_with_its_launcher(
    sample_spec: MakeSpec, start: Started, how: signal.Signals
) -> None:
    """Ranks are in sessions of their own: a signal to the process group does not reach them."""
    spec = sample_spec(orders="save", accelerate=TWO_PROCESSES, resources=Resources(processes=2))
    launcher = start(spec, ranks=2)
    pids = pids_of(spec.folder)
    sessions = {os.getsid(pid) for pid in pids}
    assert len(sessions) == 4
    launcher.send_signal(how)
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    if how is signal.SIGINT:
        assert (spec.folder / "saved.txt").read_text() == "saved"
        assert not any(map(lives, pids))
    else:
        # Their children end with what they are told by nobody: only the ranks can be asked for.
        wait_until(lambda: not any(map(lives, pids[::2])), SECONDS_TO_END, "the ranks' end")


def test_what_runs_too_long_is_ended_and_says_so(
    sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(orders="save", resources=Resources(max_runtime_minutes=0.05))
    with pytest.raises(LaunchError, match=r"ended after max_runtime_minutes=0\.05; allow more"):
        run_local(spec, environment)
    assert (spec.folder / "saved.txt").exists()
    assert not any(map(lives, pids_of(spec.folder)))


@pytest.mark.parametrize("wrapper", [ONE_PROCESS, TWO_PROCESSES])
def test_under_a_wrapper_the_childs_own_words_are_shown(
    sample_spec: MakeSpec, environment: Environment, wrapper: dict[str, object]
) -> None:
    with pytest.raises(LaunchError) as caught:
        run_local(sample_spec(orders="fail", accelerate=wrapper), environment)
    assert str(caught.value).endswith("ValueError: the shelf is empty")


def test_several_machines_are_refused(sample_spec: MakeSpec) -> None:
    with pytest.raises(LaunchError, match=r"nodes=2; allowed with RETAIL_LAUNCHER=local: 1"):
        run_local(sample_spec(resources=Resources(nodes=2)))


@pytest.mark.fault(
    "a run is killed while heavy work hangs, and begun again at once",
    "what was left is ended first: never do two processes write to one folder",
)
def test_what_a_killed_launcher_left_is_ended_before_the_work_begins_again(
    sample_spec: MakeSpec, start: Started, environment: Environment
) -> None:
    spec = sample_spec(orders="linger")
    launcher = start(spec)
    pids = pids_of(spec.folder)
    # It cannot see by itself that its launcher is gone.
    os.kill(pids[0], signal.SIGSTOP)
    launcher.kill()
    launcher.wait()
    assert lives(pids[0])

    assert run_local(sample_spec(), environment).metrics == {"characters": 11}

    assert not any(map(lives, pids))
