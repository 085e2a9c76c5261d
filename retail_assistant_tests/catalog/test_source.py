import gzip
import hashlib
from pathlib import Path

import fsspec
import polars as pl
import pytest

from retail_assistant.catalog.schema import FLIPKART_COLUMNS
from retail_assistant.catalog.source import CatalogError, catalog_version, read_catalog

HEADER = b"uniq_id,product_name,product_category_tree\n"


def test_reads_all_columns_as_text_and_numbers_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,2,3\n01,x,y\n")
    frame = read_catalog(str(path)).collect()
    assert frame.columns == ["source_row", *FLIPKART_COLUMNS]
    assert frame["source_row"].to_list() == [1, 2]
    assert frame["uniq_id"].to_list() == ["1", "01"]
    assert frame["brand"].to_list() == [None, None]
    assert frame.schema["source_row"] == pl.UInt32
    assert {frame.schema[name] for name in FLIPKART_COLUMNS} == {pl.String()}


def test_compressed_parquet_and_remote_files_read_the_same(tmp_path: Path) -> None:
    plain = tmp_path / "c.csv"
    plain.write_bytes(HEADER + b"1,2,3\n")
    expected = read_catalog(str(plain)).collect()
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    expected.drop("source_row").write_parquet(tmp_path / "c.parquet")
    for other in ("c.csv.gz", "c.parquet"):
        assert read_catalog(str(tmp_path / other)).collect().equals(expected)
    with fsspec.open("memory://catalog-source/c.csv", "wb") as file:
        file.write(plain.read_bytes())
    assert read_catalog("memory://catalog-source/c.csv").collect().equals(expected)
    assert catalog_version("memory://catalog-source/c.csv") == catalog_version(str(plain))


def test_a_changed_remote_file_is_read_anew() -> None:
    uri = "memory://catalog-source/changing.csv"
    for name in (b"before", b"after"):
        with fsspec.open(uri, "wb") as file:
            file.write(HEADER + b"1," + name + b",3\n")
        assert read_catalog(uri).collect()["product_name"].item() == name.decode()
        digest = hashlib.sha256(HEADER + b"1," + name + b",3\n").hexdigest()
        assert catalog_version(uri) == f"sha256:{digest}"


def test_odd_bytes_ragged_and_blank_lines_do_not_stop_the_read(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER + b"1,caf\xe9,t\n2\n\n3,n,t,more,more\n")
    frame = read_catalog(str(path)).collect()
    assert frame["uniq_id"].to_list() == ["1", "2", None, "3"]
    assert frame["product_name"].to_list() == ["caf\ufffd", None, None, "n"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", HEADER, "no data rows"),
        ("columns.csv", b"uniq_id,name\n1,2\n", "product_name, product_category_tree"),
        ("quote.csv", HEADER + b'1,"never closed,3\n', "every opened quote closed"),
        ("broken.parquet", b"no parquet", "cannot be parsed"),
        ("catalog.xlsx", b"PK", "ending"),
    ],
)
def test_says_what_is_wrong_with_a_file(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CatalogError) as raised:
        read_catalog(str(path))
    assert says in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_says_what_is_wrong_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for uri, says in (
        (tmp_path / "absent.csv", "not found"),
        (tmp_path / "absent", "not found"),
        (tmp_path, "is a folder"),
        (tmp_path / "folder.csv", "is a folder"),
        ("memory://nowhere/absent.csv", "not found"),
        ("nosuch://bucket/c.csv", "cannot be opened"),
        ("memory://nowhere/absent", "ending"),
    ):
        with pytest.raises(CatalogError, match=says):
            read_catalog(str(uri))


def test_nested_parquet_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    columns = {"uniq_id": ["1"], "product_name": ["n"], "product_category_tree": [["a", "b"]]}
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(CatalogError, match="nested column"):
        read_catalog(str(path))


def test_version_is_the_content_hash(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,2,3\n")
    assert catalog_version(str(path)) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with pytest.raises(CatalogError, match="not found"):
        catalog_version(str(tmp_path / "absent.csv"))
