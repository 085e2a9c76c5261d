"""Tables are named by their content, pointed to last, and never trusted when damaged."""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.storage import (
    StorageError,
    TableStore,
    file_sha256,
    fingerprint,
    known_sha256,
    write_atomically,
)

FIRST = pl.DataFrame({"product_id": ["a", "b"], "price": [1.0, None]})
SECOND = pl.DataFrame({"product_id": ["c"], "price": [2.0]})
ROUNDS_OF_KILLING = 3
WRITE_FOREVER = """
import sys
from hashlib import sha256
from pathlib import Path
import polars as pl
from retail_assistant.storage import TableStore
store = TableStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10**9):
    store.write(pl.DataFrame({"number": [number] * 50_000}), "products")
"""


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


def files(store: TableStore, name: str = "products") -> set[str]:
    return {path.name for path in (store.root / name).iterdir()}


def test_a_table_comes_back_as_it_was_written(store: TableStore) -> None:
    written = store.write(FIRST, "products")
    found = store.ref("products")
    assert found == written
    assert found.read().equals(FIRST)
    assert found.rows == 2


def test_the_same_content_has_the_same_address(store: TableStore, tmp_path: Path) -> None:
    first = store.write(FIRST, "products")
    again = store.write(FIRST.clone(), "products")
    elsewhere = TableStore(tmp_path / "other").write(FIRST, "products")
    assert first == again
    assert (elsewhere.path.name, elsewhere.sha256) == (first.path.name, first.sha256)
    assert files(store) == {first.path.name, "latest.json"}


def test_new_content_overwrites_nothing(store: TableStore) -> None:
    old = store.write(FIRST, "products")
    new = store.write(SECOND, "products")
    assert old.path != new.path
    assert old.read().equals(FIRST)
    assert store.ref("products").read().equals(SECOND)


def test_going_back_to_old_content_only_moves_the_pointer(store: TableStore) -> None:
    old = store.write(FIRST, "products")
    new = store.write(SECOND, "products")
    store.write(FIRST, "products")
    assert store.ref("products") == old
    assert new.read().equals(SECOND)


def test_partitions_are_kept_apart(store: TableStore) -> None:
    store.write(FIRST, "predictions", "job-1")
    store.write(SECOND, "predictions", "job-0")
    assert store.partitions("predictions") == ["job-0", "job-1"]
    assert store.ref("predictions", "job-1").read().equals(FIRST)
    with pytest.raises(StorageError, match="predictions does not exist for job-2 yet"):
        store.ref("predictions", "job-2")
    with pytest.raises(StorageError, match="predictions does not exist yet"):
        store.ref("predictions")


@pytest.mark.fault(
    "A bit of a stored table flips",
    "It is refused by its hash, and making it again mends it",
)
def test_an_altered_table_is_refused(store: TableStore) -> None:
    ref = store.write(FIRST, "products")
    content = bytearray(ref.path.read_bytes())
    content[len(content) // 2] ^= 1
    ref.path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="altered or truncated"):
        store.ref("products").read()


@pytest.mark.fault(
    "A bit of a stored table flips",
    "It is refused by its hash, and making it again mends it",
)
def test_a_table_that_was_altered_after_it_was_read_is_refused(store: TableStore) -> None:
    ref = store.write(FIRST, "products")
    os.utime(ref.path, (1_000_000_000, 1_000_000_000))
    assert ref.read().equals(FIRST)
    content = bytearray(ref.path.read_bytes())
    content[len(content) // 2] ^= 1
    ref.path.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="altered or truncated"):
        ref.read()
    with pytest.raises(StorageError, match="altered or truncated"):
        ref.scan()


@pytest.mark.fault(
    "a table is altered after it was read, and its date put back",
    "it is refused when it is read again",
)
def test_a_date_that_is_put_back_hides_nothing(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if everything had been written long ago, so that hashes are kept.
    monkeypatch.setattr("retail_assistant.storage.files._SETTLED_SECONDS", 0.0)
    ref = store.write(FIRST, "products")
    assert ref.read().equals(FIRST)
    before = ref.path.stat()
    content = bytearray(ref.path.read_bytes())
    content[len(content) // 2] ^= 1
    time.sleep(0.02)  # longer than the grain of the file system's clock
    ref.path.write_bytes(bytes(content))
    os.utime(ref.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StorageError, match="altered or truncated"):
        ref.read()


def test_a_file_is_hashed_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    hashed: list[Path] = []
    monkeypatch.setattr(
        "retail_assistant.storage.files.file_sha256",
        lambda one: hashed.append(one) or file_sha256(one),
    )
    for _ in range(3):
        assert known_sha256(path) == sha256(b"1").hexdigest()
    assert len(hashed) == 3, "written just now: a second change would not show"
    monkeypatch.setattr("retail_assistant.storage.files._SETTLED_SECONDS", 0.0)
    for _ in range(3):
        assert known_sha256(path) == sha256(b"1").hexdigest()
    assert len(hashed) == 4


@pytest.mark.fault(
    "A stored table is cut off or gone",
    "One line names it and says to materialize it again",
)
def test_a_truncated_or_missing_table_is_refused(store: TableStore) -> None:
    ref = store.write(FIRST, "products")
    ref.path.write_bytes(ref.path.read_bytes()[:-10])
    with pytest.raises(StorageError, match="altered or truncated"):
        ref.read()
    ref.path.unlink()
    with pytest.raises(StorageError, match="is missing; materialize the asset again"):
        ref.read()


@pytest.mark.fault(
    "A bit of a stored table flips",
    "It is refused by its hash, and making it again mends it",
)
def test_writing_again_mends_a_damaged_table(store: TableStore) -> None:
    ref = store.write(FIRST, "products")
    ref.path.write_bytes(b"")
    assert store.write(FIRST, "products").read().equals(FIRST)


@pytest.mark.parametrize(
    ("name", "partition"),
    [
        ("..", None),
        ("../products", None),
        ("/etc", None),
        ("", None),
        (".hidden", None),
        ("products", ".."),
        ("products", "a/b"),
        ("products", "a\\b"),
        ("products", ""),
    ],
)
@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_names_that_lead_elsewhere_are_refused(
    store: TableStore, name: str, partition: str | None
) -> None:
    with pytest.raises(StorageError, match="cannot name a table or partition"):
        store.write(FIRST, name, partition)
    with pytest.raises(StorageError, match="cannot name a table or partition"):
        store.ref(name, partition)
    assert not store.root.exists()


def test_a_write_that_fails_leaves_the_old_table(store: TableStore) -> None:
    old = store.write(FIRST, "products")
    unwritable = pl.DataFrame({"what": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises((pl.exceptions.PolarsError, pl.exceptions.PanicException)):
        store.write(unwritable, "products")
    assert store.ref("products") == old
    assert files(store) == {old.path.name, "latest.json"}


@pytest.mark.fault(
    "a writer of tables is killed at any moment",
    "readers see the table before or the one after",
)
def test_a_killed_writer_leaves_a_whole_table(store: TableStore, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)]
    for number in range(ROUNDS_OF_KILLING):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.2 + 0.037 * number)
            writer.kill()
        assert store.ref("products").read()["number"].n_unique() == 1


def test_the_pointer_states_file_hash_and_rows(store: TableStore) -> None:
    ref = store.write(FIRST, "products")
    pointer = json.loads((ref.path.parent / "latest.json").read_text())
    assert pointer == {"file": ref.path.name, "sha256": ref.sha256, "rows": 2}
    assert ref.sha256.startswith(ref.path.stem)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "facts.json"
    write_atomically(path, "old")
    write_atomically(path, b"new", durable=False)
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["facts.json"]


def test_a_fingerprint_depends_on_content_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint({"a": 1, "b": [2, 3]}) != fingerprint({"a": 1, "b": [3, 2]})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from retail_assistant.storage import TableStore\n"
        "with TableStore(Path(sys.argv[1])).staging('products') as folder:\n"
        "    (folder / 'table.parquet').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = TableStore(tmp_path)
    left = list(store.folder("products").iterdir())
    assert [path.name.startswith(".writing-") for path in left] == [True]
    with store.staging("products") as first, store.staging("products") as second:
        assert sorted(store.folder("products").iterdir()) == sorted([first, second])
    assert list(store.folder("products").iterdir()) == []
