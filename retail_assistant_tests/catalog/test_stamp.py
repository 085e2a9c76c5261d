"""When the catalog file is worth reading again."""

import os
import time
from pathlib import Path

import pytest

from retail_assistant.catalog.source import CatalogError
from retail_assistant.catalog.stamp import catalog_stamp, folder_stamp


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.csv"
    path.write_text("uniq_id\n1\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_an_untouched_file_keeps_its_stamp(catalog: Path) -> None:
    assert catalog_stamp(str(catalog)) == catalog_stamp(str(catalog))


def test_another_date_size_or_file_gives_another_stamp(catalog: Path) -> None:
    stamps = [catalog_stamp(str(catalog))]
    os.utime(catalog, (1_000_000_001, 1_000_000_001))
    stamps.append(catalog_stamp(str(catalog)))
    catalog.write_text("uniq_id\n1\n2\n")
    os.utime(catalog, (1_000_000_001, 1_000_000_001))
    stamps.append(catalog_stamp(str(catalog)))
    copy = catalog.with_name("copy.csv")
    copy.write_bytes(catalog.read_bytes())
    os.utime(copy, (1_000_000_001, 1_000_000_001))
    copy.replace(catalog)
    stamps.append(catalog_stamp(str(catalog)))
    assert len(set(stamps)) == 4
    assert None not in stamps


def test_a_file_that_is_being_written_has_no_stamp_yet(catalog: Path) -> None:
    catalog.write_text("uniq_id\n")
    assert catalog_stamp(str(catalog), settled_seconds=60) is None
    assert catalog_stamp(str(catalog), settled_seconds=0) is not None


@pytest.mark.fault(
    "the catalog file is dated in the future: another machine's clock",
    "it is looked at, and not waited for",
)
def test_a_date_in_the_future_is_not_waited_for(catalog: Path) -> None:
    later = time.time() + 3600
    os.utime(catalog, (later, later))
    assert catalog_stamp(str(catalog)) is not None


def test_no_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="was not found"):
        catalog_stamp(str(tmp_path / "none.csv"))


def test_a_folder_has_another_stamp_when_a_file_changes_comes_or_goes(tmp_path: Path) -> None:
    def write(name: str, text: str, when: int = 1_000_000_000) -> str | None:
        (tmp_path / "documents").mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        for path in (tmp_path / name, tmp_path / "documents"):
            os.utime(path, (when, when))
        return folder_stamp(tmp_path)

    stamps = [write("terms.csv", "a"), write("terms.csv", "ab"), write("documents/one.md", "c")]
    stamps.append(write("documents/one.md", "c", 1_000_000_001))
    assert None not in stamps
    assert len(set(stamps)) == 4
    assert folder_stamp(tmp_path) == stamps[-1]
    (tmp_path / "terms.csv").write_text("just now")
    assert folder_stamp(tmp_path) is None
