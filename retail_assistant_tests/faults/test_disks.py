"""Storage that is full or cannot be written: one clear line, and what was there stays as it was."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec, read_manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, TableStore
from retail_assistant.workbench import WorkbenchError, instance_folder, require_free_space
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.faults.disks import enlarge, fill, read_only, small_disk
from retail_assistant_tests.launch.conftest import environment, sample_spec

__all__ = ["environment", "sample_spec"]

MakeSpec = Callable[..., LaunchSpec]
FIRST = pl.DataFrame({"product_id": ["a", "b"], "price": [1.0, None]})
SECOND = pl.DataFrame({"product_id": ["c"], "price": [2.0]})
# The kernel's limit on a file's size is a full disk that needs no rights.
WRITE = """
import resource, sys
from pathlib import Path
import polars as pl
from retail_assistant.storage import StorageError, TableStore
store, limit = TableStore(Path(sys.argv[1])), int(sys.argv[2])
old = store.ref("products")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if limit < 100:
        store.point(old, "products", label="accepted")
    store.write(pl.DataFrame({"number": pl.int_range(50_000, eager=True).shuffle()}), "products")
except StorageError as error:
    print(error)
"""


@pytest.mark.fault(
    "The disk is full while a table or its pointer is written",
    "One line says to make room; the pointer names the old table, and no half file is left",
)
@pytest.mark.parametrize("limit", [10_000, 10])
def test_a_full_disk_leaves_the_old_table(tmp_path: Path, limit: int) -> None:
    store = TableStore(tmp_path)
    old = store.write(FIRST, "products")
    before = sorted(path.name for path in (tmp_path / "tables" / "products").iterdir())
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path), str(limit)],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    (told,) = done.stdout.splitlines()
    assert told.startswith(str(tmp_path / "tables" / "products"))
    assert "cannot be written: " in told
    assert told.endswith("; make room and run it again")
    assert store.ref("products") == old
    assert old.read().equals(FIRST)
    assert sorted(path.name for path in old.path.parent.iterdir()) == before


@pytest.mark.fault(
    "The disk is full before or while heavy work writes",
    "The run fails and says that the disk is full; with more room it is done",
)
def test_heavy_work_on_a_full_disk_says_so(
    tmp_path: Path, sample_spec: MakeSpec, environment: dict[str, str]
) -> None:
    with small_disk(tmp_path / "small", "192k") as disk:
        root = disk / "storage"
        with pytest.raises(LaunchError, match=r"has 0\.0 MiB left: make room and run it again"):
            run_local(sample_spec(orders="fill", root=root), environment)
        assert read_manifest(sample_spec(root=root).folder) is None
        fill(disk)
        other = sample_spec(root=root, inputs={"source": "v2"})
        with pytest.raises(StorageError, match=r"No space left on device; make room"):
            run_local(other, environment)
        enlarge(disk, "20m")
        for spec in (sample_spec(root=root), other):
            assert run_local(spec, environment).metrics == {"characters": 11}


@pytest.mark.fault(
    "The storage folder can be read and not written",
    "Tables and finished work are used; what would write says so in one line",
)
def test_storage_that_cannot_be_written(
    tmp_path: Path,
    sample_spec: MakeSpec,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "storage"
    store = TableStore(root)
    store.write(FIRST, "products")
    done = run_local(sample_spec(), environment)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with read_only(root):
        assert store.ref("products").read().equals(FIRST)
        assert run_local(sample_spec(orders="fail"), environment) == done
        why = r"cannot be written: (Read-only file system|Permission denied); check"
        with pytest.raises(StorageError, match=why):
            store.write(SECOND, "products")
        with pytest.raises(StorageError, match=why):
            store.write(SECOND, "other")
        with pytest.raises(StorageError, match=why):
            run_local(sample_spec(inputs={"source": "v2"}), environment)
        with pytest.raises(WorkbenchError, match="cannot be written"):
            instance_folder(Settings(storage_uri=str(root)))
    assert store.ref("products").read().equals(FIRST)
    assert store.write(SECOND, "products").read().equals(SECOND)


@pytest.mark.fault(
    "The disk is nearly full before the main job",
    "It does not begin, and says how much is free and how much is needed",
)
def test_the_main_job_asks_for_room_first(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"GiB free, at least 999999999 GiB are needed"):
        require_free_space(Settings(storage_uri=str(tmp_path / "var")), gib=999_999_999)
