"""Storage in a bucket: the working copies of two machines, a real server, good days and bad."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    LaunchSpec,
    read_artefact_ref,
    read_manifest,
    write_artefact_ref,
)
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, TableStore
from retail_assistant.storage.bucket import (
    Bucket,
    BucketError,
    ConflictError,
    bucket_of,
    fetch,
    fetch_folder,
    names_in,
    publish,
    read_pointer,
    withdraw,
    write_pointer,
)
from retail_assistant_tests.emulator import BUCKET, SHORT, SILENT, CloudStorage, cloud_storage
from retail_assistant_tests.evaluation.manifests import finished

NUMBERS = itertools.count()
FRAME = pl.DataFrame({"product_id": ["a", "b"], "price": [1.0, None]})


@pytest.fixture(scope="module")
def front(gcs_emulator: str) -> Iterator[CloudStorage]:
    with cloud_storage(gcs_emulator) as storage:
        yield storage


@pytest.fixture
def cloud(front: CloudStorage, monkeypatch: pytest.MonkeyPatch) -> CloudStorage:
    """The same, on a good day."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    front.fault, front.faults = (lambda _method, _path: None), 0
    return front


def machines(tmp_path: Path, count: int = 2, retry_seconds: float = 20) -> list[Path]:
    """The storage folders of several machines that share a new part of the bucket."""
    uri = f"gs://{BUCKET}/shared/{next(NUMBERS)}"
    return [
        Settings(
            storage_uri=uri,
            work_folder=tmp_path / f"machine-{number}",
            storage_retry_seconds=retry_seconds,
        ).storage
        for number in range(count)
    ]


def test_what_one_machine_stores_another_reads(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    ref = TableStore(one).write(FRAME, "products")
    TableStore(one).write(FRAME, "reports", "job-a")
    found = TableStore(other).ref("products")
    assert found.sha256 == ref.sha256
    assert found.path != ref.path
    assert found.read().equals(FRAME)
    assert TableStore(other).partitions("reports") == ["job-a"]
    with pytest.raises(StorageError, match="does not exist yet"):
        TableStore(other).ref("nothing")


def test_a_folder_that_is_no_bucket_stays_as_it_was(tmp_path: Path) -> None:
    assert bucket_of(tmp_path) is None
    for nothing in (fetch, fetch_folder, publish, withdraw):
        nothing(tmp_path / "x")
    write_pointer(tmp_path / "p.json", "{}")
    assert read_pointer(tmp_path / "p.json") == "{}"
    assert read_pointer(tmp_path / "q.json") is None


def test_an_artefact_comes_whole_and_its_manifest_last(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    spec = LaunchSpec(name="adapter", module="m", config={}, inputs={}, code_version="1", root=one)
    finished(spec.folder, {"weights/a.bin": b"\0" * 3_000_000}, {}, {})
    (spec.folder / "checkpoints").mkdir()
    (spec.folder / "checkpoints" / "half").write_text("on the way")
    ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
    write_artefact_ref(ref, one, "adapter", "job")
    found = read_artefact_ref(other, "adapter", "job")
    assert found.folder == other / "artefacts" / "adapter" / spec.fingerprint
    assert not found.folder.exists(), "nothing is copied before it is read"
    assert found.manifest().fingerprint == ref.manifest().fingerprint
    assert sorted(one.name for one in found.folder.iterdir()) == [MANIFEST_NAME]
    assert (found.local / "weights" / "a.bin").read_bytes() == b"\0" * 3_000_000
    assert read_manifest(found.folder) is not None


class Listing:
    """Google's answer to a listing, with names that an emulator would refuse."""

    def __init__(self, name: str) -> None:
        self._name = name

    def list_blobs(self, prefix: str, **_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=prefix + self._name, size=1)]


@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
@pytest.mark.parametrize("name", ["../escaped", "a/../../../escaped", "/etc/escaped"])
def test_an_object_whose_name_leads_elsewhere_is_not_fetched(name: str, tmp_path: Path) -> None:
    root = tmp_path / "bucket" / "shop"
    bucket = Bucket(root, "gs://bucket/shop", 1.0)
    vars(bucket)["_bucket"] = Listing(name)
    with pytest.raises(BucketError, match="cannot name a file"):
        bucket.fetch_folder(root / "artefacts" / "adapter" / "f")
    assert not list(tmp_path.iterdir())


def test_what_is_not_finished_has_no_manifest_elsewhere(
    cloud: CloudStorage, tmp_path: Path
) -> None:
    one, other = machines(tmp_path)
    folder = one / "artefacts" / "adapter" / "print"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "step-1").write_text("1")
    (folder / ".lock").touch()
    publish(folder)
    there = other / "artefacts" / "adapter" / "print"
    assert read_manifest(there) is None
    fetch_folder(there)
    assert names_in(there) == ["checkpoints/step-1"]
    # Finished: what was on the way there is of no use any more.
    (folder / "checkpoints" / "step-1").unlink()
    finished(folder, {"weights": b"1"}, {}, {})
    publish(folder)
    assert "checkpoints/step-1" not in names_in(one / "artefacts" / "adapter", "print/*")
    assert not any("checkpoints" in name for name in names_in(machines(tmp_path, 1)[0]))


def test_the_first_of_two_twins_counts(cloud: CloudStorage, tmp_path: Path) -> None:
    folders = [root / "artefacts" / "adapter" / "print" for root in machines(tmp_path)]
    for folder, content in zip(folders, (b"first", b"other"), strict=True):
        finished(folder, {"weights": content}, {}, {})
        publish(folder)
    assert [(folder / "weights").read_bytes() for folder in folders] == [b"first"] * 2
    assert all(read_manifest(folder) for folder in folders)
    withdraw(folders[0] / "weights")
    (folders[0] / "weights").unlink()
    assert read_manifest(folders[0]) is None, "nobody has its weights any more"


@pytest.mark.fault(
    "A machine's copy of a bucket's file is cut off",
    "It is fetched again",
)
def test_a_truncated_file_is_fetched_again(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    folder = one / "artefacts" / "adapter" / "print"
    finished(folder, {"weights": b"12345"}, {}, {})
    publish(folder)
    there = other / "artefacts" / "adapter" / "print"
    there.mkdir(parents=True)
    (there / "weights").write_bytes(b"123")
    assert read_manifest(there) is not None
    ref = ArtefactRef(folder=there, fingerprint="print")
    assert (ref.local / "weights").read_bytes() == b"12345"


@pytest.mark.fault(
    "this machine's copy of an artefact in a bucket is damaged",
    "it is fetched again when it is read",
)
def test_a_damaged_copy_is_fetched_again_when_it_is_read(
    cloud: CloudStorage, tmp_path: Path
) -> None:
    (one,) = machines(tmp_path, 1)
    folder = one / "artefacts" / "adapter" / "print"
    finished(folder, {"adapter/weights": b"12345"}, {}, {})
    table = TableStore(one).write(FRAME, "products")
    publish(folder)
    ref = ArtefactRef(folder=folder, fingerprint="print")
    weights = folder / "adapter" / "weights"
    for read in (lambda: ref.part("adapter"), lambda: ref.path("adapter/weights")):
        weights.write_bytes(b"12354")
        read()
        assert weights.read_bytes() == b"12345"
    table.path.write_bytes(table.path.read_bytes()[:-1])
    assert table.read().equals(FRAME)


@pytest.mark.fault(
    "an artefact's object in a bucket is altered",
    "who reads it is told which object, and what to do; the work is not taken for done there",
)
def test_an_altered_object_is_refused(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    folder = one / "artefacts" / "adapter" / "print"
    finished(folder, {"adapter/weights": b"12345"}, {}, {})
    publish(folder)
    (folder / "adapter" / "weights").write_bytes(b"12354")
    publish(folder / "adapter" / "weights")
    there = other / "artefacts" / "adapter" / "print"
    ref = ArtefactRef(folder=there, fingerprint="print")
    told = r"gs://.*/adapter/weights was altered or truncated; remove gs://.*/manifest\.json, then"
    with pytest.raises(StorageError, match=told):
        ref.part("adapter")
    assert read_manifest(there) is None


@pytest.mark.fault(
    "two machines move one pointer of a bucket at once",
    "the second is told that it was moved, and nothing is lost",
)
def test_a_pointer_that_was_moved_meanwhile_is_not_moved(
    cloud: CloudStorage, tmp_path: Path
) -> None:
    one, other = machines(tmp_path)
    write_pointer(one / "champion.json", "first")
    assert read_pointer(other / "champion.json") == "first"
    write_pointer(one / "champion.json", "second")
    with pytest.raises(ConflictError, match="changed by another run meanwhile"):
        write_pointer(other / "champion.json", "third")
    assert read_pointer(other / "champion.json") == "second"
    write_pointer(other / "champion.json", "third")
    assert read_pointer(one / "champion.json") == "third"
    with pytest.raises(ConflictError):
        # It read "third"; nothing but that may be replaced.
        write_pointer(other / "champion.json", "fourth")
        write_pointer(one / "champion.json", "fifth")
    withdraw(one / "champion.json")
    assert read_pointer(other / "champion.json") is None
    assert not (other / "champion.json").exists()


def test_a_number_is_taken_once(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    write_pointer(one / "champions" / "000001-promotion.json", "of one", new=True)
    with pytest.raises(ConflictError):
        write_pointer(other / "champions" / "000001-promotion.json", "of the other", new=True)
    assert read_pointer(other / "champions" / "000001-promotion.json") == "of one"


@pytest.mark.fault(
    "The object store answers 429 or 503 for a while",
    "It is asked again with growing pauses, and nothing is lost",
)
def test_what_passes_is_tried_again(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    asked = itertools.count()
    statuses = itertools.cycle((429, 503))
    cloud.fault = lambda _method, _path: next(statuses) if next(asked) % 3 == 0 else None
    ref = TableStore(one).write(FRAME, "products")
    assert TableStore(other).ref("products").read().equals(FRAME)
    assert ref.rows == 2
    assert cloud.faults > 2


@pytest.mark.fault(
    "The object store sends half of an object",
    "It is asked for the whole again; no half file is left",
)
def test_half_an_answer_is_asked_for_again(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other, third = machines(tmp_path, 3)
    ref = TableStore(one).write(FRAME, "products")
    asked = itertools.count()
    cloud.fault = lambda method, _: SHORT if method == "GET" and next(asked) % 2 == 0 else None
    assert TableStore(other).ref("products").read().equals(FRAME)
    assert cloud.faults > 1
    # Always: in the end one line, and nothing that could be taken for the table.
    bucket = bucket_of(third)
    assert bucket is not None
    bucket.retry_seconds = 1.5
    cloud.fault = lambda method, _: SHORT if method == "GET" else None
    with pytest.raises(BucketError, match="cannot read gs://") as failed:
        TableStore(third).ref("products")
    assert len(str(failed.value).splitlines()) == 1
    with pytest.raises(BucketError, match="cannot read gs://"):
        fetch(third / "tables" / "products" / ref.path.name)
    assert not list(third.rglob("*.parquet"))


@pytest.mark.long_fault
@pytest.mark.fault(
    "The object store does not answer at all",
    "After a minute it is asked again",
)
def test_silence_is_not_waited_for_for_ever(cloud: CloudStorage, tmp_path: Path) -> None:
    one, other = machines(tmp_path)
    TableStore(one).write(FRAME, "products")
    asked = itertools.count()
    cloud.fault = lambda _method, _path: SILENT if next(asked) == 0 else None
    assert TableStore(other).ref("products").read().equals(FRAME)
    assert cloud.faults == 1


@pytest.mark.parametrize("status", [503, 403])
@pytest.mark.fault(
    "The object store answers 503 for good, or 403",
    "One line names the object and the reason",
)
def test_what_does_not_pass_ends_in_one_line(
    cloud: CloudStorage, tmp_path: Path, status: int
) -> None:
    (one,) = machines(tmp_path, 1, retry_seconds=1.5)
    cloud.fault = lambda _method, _path: status
    with pytest.raises(BucketError, match=f"cannot write gs://{BUCKET}/shared/") as failed:
        TableStore(one).write(FRAME, "products")
    assert len(str(failed.value).splitlines()) == 1
    with pytest.raises(BucketError, match="cannot read gs://"):
        TableStore(one).ref("products")


@pytest.mark.fault(
    "The bucket does not exist",
    "One line names it",
)
def test_a_wrong_bucket_is_named(cloud: CloudStorage, tmp_path: Path) -> None:
    root = Settings(
        storage_uri="gs://no-such-bucket/x", work_folder=tmp_path, storage_retry_seconds=1
    ).storage
    with pytest.raises(BucketError, match=r"cannot write gs://no-such-bucket/x/tables/products"):
        TableStore(root).write(FRAME, "products")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    # Without ? and #, and what looks quoted (%aa): the emulator quotes no links that it gives.
    files=st.dictionaries(
        st.text("abc/é ü%+", min_size=1, max_size=12).filter(
            lambda name: (
                not any(part in ("", ".", "..") for part in name.split("/"))
                and not re.search("%[abc]{2}", name)
            )
        ),
        st.binary(max_size=200),
        max_size=4,
    )
)
def test_any_folder_arrives_as_it_was(
    cloud: CloudStorage, tmp_path: Path, files: dict[str, bytes]
) -> None:
    one, other = (root / "artefacts" / "x" / str(next(NUMBERS)) for root in machines(tmp_path))
    written: dict[str, bytes] = {}
    for name, content in files.items():
        try:
            (one / name).parent.mkdir(parents=True, exist_ok=True)
            (one / name).write_bytes(content)
        except OSError:
            continue  # a file where a folder is
        written[name] = content
    publish(one)
    there = other.parent / one.name
    fetch_folder(there)
    assert {name: (there / name).read_bytes() for name in names_in(there)} == written
