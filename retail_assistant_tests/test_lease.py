"""Of several machines that share a bucket one makes an artefact, however the others end."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec, Preempted, read_manifest
from retail_assistant.storage import lease
from retail_assistant.storage.bucket import Bucket, BucketError, bucket_of, shared_sizes
from retail_assistant.storage.lease import LeaseError, lease_of, leased, wait_for_others
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.emulator import CloudStorage
from retail_assistant_tests.launch.conftest import MakeSpec, environment, sample_spec
from retail_assistant_tests.launch.waiting import lives, pids_of, wait_until
from retail_assistant_tests.shared_storage import LEASE_SECONDS, cloud, front, machines

__all__ = ["cloud", "environment", "front", "sample_spec"]

RUN_SPEC = """
import sys
from pathlib import Path
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec
run_local(LaunchSpec.model_validate_json(Path(sys.argv[1]).read_text()))
"""
LONG = 60.0


def folder_of(root: Path) -> Path:
    return root / "artefacts" / "adapter" / "print"


def shared(root: Path) -> Bucket:
    found = bucket_of(root)
    assert found is not None
    return found


def said(root: Path) -> str | None:
    return shared(root).current(lease_of(folder_of(root)))[1]


@pytest.mark.fault(
    "Two machines begin the same work at once", "One does it; the other waits, and has what it made"
)
def test_two_machines_make_an_artefact_once(
    sample_spec: MakeSpec, environment: dict[str, str], tmp_path: Path
) -> None:
    specs = [
        sample_spec(root=root, tracking={"seconds": "1.5"}) for root in machines(tmp_path, count=3)
    ]
    together = Barrier(len(specs))

    def make(spec: LaunchSpec) -> object:
        together.wait()
        return run_local(spec, environment)

    with ThreadPoolExecutor(len(specs)) as threads:
        manifests = list(threads.map(make, specs))
    assert manifests[0] == manifests[1] == manifests[2]
    ran = [spec for spec in specs if (spec.folder / "runs.txt").exists()]
    assert len(ran) == 1
    assert not any(name.endswith(lease.LEASE) for name in shared_sizes(specs[0].root))


@pytest.mark.fault(
    "A machine is lost in the middle of its work",
    "Another one takes the work over once the lost one's lease has run out",
)
def test_what_a_lost_machine_was_at_is_taken_over(
    sample_spec: MakeSpec, environment: dict[str, str], tmp_path: Path
) -> None:
    one, other = machines(tmp_path)
    spec = sample_spec("linger", root=one)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    lost = subprocess.Popen(
        [sys.executable, "-c", RUN_SPEC, str(tmp_path / "spec.json")],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
    )
    wait_until((spec.folder / "pids-0.txt").exists, LONG, "the work")
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    sample_spec(orders="")
    there = sample_spec(root=other)
    assert shared(other).current(lease_of(there.folder))[1], "it could not give the lease back"
    with pytest.raises(LeaseError, match="is at it"):
        wait_for_others(there.folder, seconds=0.5)
    assert run_local(there, environment).fingerprint == spec.fingerprint


@pytest.mark.fault(
    "Another machine has taken a work over, for this one was not heard of",
    "This one ends its processes, leaves the lease alone, and can be run again",
)
def test_who_has_lost_a_lease_ends_its_work(
    sample_spec: MakeSpec, environment: dict[str, str], tmp_path: Path
) -> None:
    one, other = machines(tmp_path)
    spec = sample_spec("save", root=one)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            run_local(spec, environment)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    wait_until((spec.folder / "pids-0.txt").exists, LONG, "the work")
    taken = lease.Holder(machine="another", token="its", process=1).model_dump_json()
    there = other / spec.folder.relative_to(one)
    take(shared(other), lease_of(there), taken)
    thread.join(LONG)
    assert isinstance(failed[0], Preempted)
    assert "another machine has taken the work over" in str(failed[0])
    assert (spec.folder / "saved.txt").exists(), "it was asked, not killed"
    assert not any(map(lives, pids_of(spec.folder)))
    assert shared(other).current(lease_of(there))[1] == taken
    assert "saved.txt" not in shared_sizes(spec.folder)


def take(bucket: Bucket, path: Path, text: str) -> None:
    """Write over a lease, however often its holder renews it."""
    while True:
        try:
            bucket.replace(path, text, bucket.current(path)[0])
        except BucketError:
            continue
        return


def test_one_at_a_time_whoever_comes(tmp_path: Path) -> None:
    roots = machines(tmp_path, count=4)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with leased(folder_of(roots[number])) as lost:
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
                assert lost is not None
                assert not lost.is_set()

    with ThreadPoolExecutor(len(roots)) as threads:
        list(threads.map(work, range(len(roots))))
    assert most == [1] * 12
    assert said(roots[0]) is None


def test_a_holder_that_lives_is_waited_for(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    with leased(folder_of(one)) as lost:
        with pytest.raises(LeaseError, match=r"process \d+ of .* is at it"):
            wait_for_others(folder_of(other), seconds=LEASE_SECONDS + 1)
        assert lost is not None
        assert not lost.is_set()
    wait_for_others(folder_of(other), seconds=0)


def test_what_this_machine_has_left_is_its_own_at_once(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    with leased(folder_of(one)):
        left = said(one)
    assert left is not None
    shared(one).replace(lease_of(folder_of(one)), left, 0)
    with pytest.raises(LeaseError), leased(folder_of(other), seconds=0):
        pass
    with leased(folder_of(one), seconds=0):
        assert said(one) != left
    assert said(one) is None


def test_a_bucket_that_is_away_costs_nobody_the_lease(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path, retry_seconds=0.3)
    with leased(folder_of(one)) as lost:
        assert lost is not None
        faults = cloud.faults
        cloud.fault = lambda _method, _path: 503
        wait_until(lambda: cloud.faults > faults + 3, LONG, "the bad day")
        cloud.fault = lambda _method, _path: None
        before = said(other)
        wait_until(lambda: said(other) != before, LONG, "a renewal")
        assert not lost.is_set()


def test_a_renewal_whose_answer_was_lost_is_ones_own(tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    with leased(folder_of(one)) as lost:
        assert lost is not None
        now = lease.Holder.model_validate_json(said(other) or "")
        text = now.model_copy(update={"renewed": 1_000}).model_dump_json()
        take(shared(other), lease_of(folder_of(other)), text)
        wait_until(lambda: said(other) != text, LONG, "a renewal")
        assert not lost.is_set()


def test_without_a_bucket_there_is_no_lease(tmp_path: Path) -> None:
    with leased(tmp_path / "artefacts" / "x" / "y") as lost:
        assert lost is None
    wait_for_others(tmp_path / "artefacts" / "x" / "y")
    assert list(tmp_path.iterdir()) == []
    assert read_manifest(tmp_path) is None
