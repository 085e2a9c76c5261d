"""Objects in a folder and in a bucket (of an emulator, a real server process)."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retail_assistant.objects import ObjectStore, ObjectStoreError


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> ObjectStore:
    if request.param == "folder":
        return ObjectStore(str(tmp_path / "objects"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_emulator"))
    return ObjectStore(f"gs://shop/{tmp_path.name}")


def test_what_was_put_is_there_under_its_name(store: ObjectStore) -> None:
    assert store.sizes("images") == {}
    assert store.get("images/ab/abc.jpg") is None
    store.put("images/ab/abc.jpg", b"one")
    store.put("images/cd/cde.jpg", b"longer")
    store.put("imagesque/x", b"no")
    store.put("images/ab/abc.jpg", b"one")
    assert store.get("images/ab/abc.jpg") == b"one"
    assert store.sizes("images") == {"images/ab/abc.jpg": 3, "images/cd/cde.jpg": 6}
    assert store.uri_of("images/ab/abc.jpg") == f"{store.uri}/images/ab/abc.jpg"
    store.delete(["images/ab/abc.jpg", "images/cd/cde.jpg"])
    assert store.sizes("images") == {}


def test_deleting_what_is_gone_is_no_error(store: ObjectStore) -> None:
    store.put("a/1", b"1")
    store.delete(["a/1", "a/2"])
    store.delete(["a/1"])
    store.delete([])
    assert store.sizes("a") == {}


def test_many_threads_may_write_at_once(store: ObjectStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.put(f"n/{number % 30}", b"x" * 10), range(90)))
    assert len(store.sizes("n")) == 30
    assert set(store.sizes("n").values()) == {10}


def test_a_store_that_works_leaves_nothing_of_its_check(store: ObjectStore) -> None:
    store.check()
    assert store.sizes("") == {}


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://bucket/x", "gs://", "gs:///prefix"])
def test_a_uri_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(ObjectStoreError, match="allowed"):
        ObjectStore(uri)


def test_a_bucket_that_does_not_exist_is_named(
    gcs_emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_emulator)
    with pytest.raises(ObjectStoreError, match="cannot write to the object store gs://nobodys/x"):
        ObjectStore("gs://nobodys/x").check()


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ObjectStoreError, match=r"cannot write to .*file: Not a directory"):
        ObjectStore(str(tmp_path / "file")).check()


def test_what_has_no_room_is_not_there_in_part(tmp_path: Path) -> None:
    """Past a limit on file sizes, writing fails in the middle, as on a full disk."""
    store = ObjectStore(str(tmp_path / "objects"))
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            store.put("a/small", b"x" * 5_000)
            store.put("a/large", b"x" * 50_000)
        except ObjectStoreError as error:
            os._exit(7 if "make room" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.sizes("") == {"a/small": 5_000}
    assert [path.name for path in (tmp_path / "objects" / "a").iterdir()] == ["small"]
