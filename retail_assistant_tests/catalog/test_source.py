import gzip
import hashlib
from pathlib import Path

import fsspec
import polars as pl
import pytest

from retail_assistant.catalog.mapping import FLIPKART, RFC_4180, Columns, CsvDialect
from retail_assistant.catalog.schema import RAW_COLUMNS, SOURCE_ROW
from retail_assistant.catalog.source import (
    CatalogError,
    RawChunk,
    catalog_state,
    catalog_version,
    open_catalog,
)
from retail_assistant.objects import ObjectStore

HEADER = b"uniq_id,product_name,product_category_tree\n"


def chunks(
    uri: Path | str, columns: Columns = FLIPKART, dialect: CsvDialect = RFC_4180
) -> list[RawChunk]:
    with open_catalog(str(uri), columns, dialect) as source:
        return list(source.chunks)


def rows(
    uri: Path | str, columns: Columns = FLIPKART, dialect: CsvDialect = RFC_4180
) -> pl.DataFrame:
    return pl.concat(chunk.rows for chunk in chunks(uri, columns, dialect))


def test_reads_the_columns_it_needs_as_text_and_numbers_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,2,3\n01,x,y\n")
    frame = rows(path)
    assert frame.columns == [SOURCE_ROW, *RAW_COLUMNS]
    assert frame[SOURCE_ROW].to_list() == [1, 2]
    assert frame["product_id"].to_list() == ["1", "01"]
    assert frame["brand"].to_list() == [None, None]
    assert frame.schema[SOURCE_ROW] == pl.UInt32
    assert {frame.schema[name] for name in RAW_COLUMNS} == {pl.String()}


def test_compressed_parquet_and_remote_files_read_the_same(tmp_path: Path) -> None:
    import pyarrow as pa

    plain = tmp_path / "c.csv"
    plain.write_bytes(HEADER + b'1,"two\nlines",3\n4,5,6\n')
    expected = rows(plain)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.output_stream(str(tmp_path / "c.csv.zst"), compression="zstd") as file:
        file.write(plain.read_bytes())
    pl.read_csv(plain, infer_schema=False).write_parquet(tmp_path / "c.parquet")
    for other in ("c.csv.gz", "c.csv.zst", "c.parquet"):
        assert rows(tmp_path / other).equals(expected)
    with fsspec.open("memory://catalog-source/c.csv", "wb") as file:
        file.write(plain.read_bytes())
    assert rows("memory://catalog-source/c.csv").equals(expected)
    assert catalog_version("memory://catalog-source/c.csv") == catalog_version(str(plain))


def test_a_changed_remote_file_is_read_anew() -> None:
    uri = "memory://catalog-source/changing.csv"
    for name in (b"before", b"after"):
        with fsspec.open(uri, "wb") as file:
            file.write(HEADER + b"1," + name + b",3\n")
        assert rows(uri)["name"].item() == name.decode()
        digest = hashlib.sha256(HEADER + b"1," + name + b",3\n").hexdigest()
        assert catalog_version(uri) == f"sha256:{digest}"


def test_a_file_in_a_bucket_is_streamed_and_its_version_needs_no_download(
    gcs_emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_emulator)
    store = ObjectStore("gs://shop/catalogs")
    text = HEADER + b"1,One,A >> B\n" * 3
    store.put("c.csv.gz", gzip.compress(text))
    store.put("c.csv", text)
    for name in ("c.csv", "c.csv.gz"):
        assert rows(store.uri_of(name))["name"].to_list() == ["One"] * 3
    before = catalog_version(store.uri_of("c.csv"))
    assert before.startswith("gcs:")
    store.put("c.csv", HEADER + b"1,Other,A >> B\n")
    assert catalog_version(store.uri_of("c.csv")) != before
    assert rows(store.uri_of("c.csv"))["name"].to_list() == ["Other"]
    for uri, says in (("gs://shop/catalogs/no.csv", "not found"), ("gs://none/c.csv", "not found")):
        with pytest.raises(CatalogError, match=says):
            rows(uri)


def test_other_encodings_and_delimiters_are_read_when_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    text = HEADER.decode().replace(",", ";") + "1;café;Kleidung\n"
    for encoding in ("utf-16", "windows-1252", "utf-8-sig"):
        path.write_bytes(text.encode(encoding))
        dialect = CsvDialect(delimiter=";", encoding=encoding)
        assert rows(path, dialect=dialect)["name"].to_list() == ["café"]
    path.write_bytes(text.encode("utf-16-le"))
    with pytest.raises(CatalogError, match=r"csv\.encoding"):
        rows(path)


def test_bytes_of_another_encoding_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER + b"1,caf\xe9,t\n2\n\n3,n,t\n")
    (chunk,) = chunks(path)
    assert chunk.rows["product_id"].to_list() == ["1", "2", "3"]
    assert chunk.rows["name"].to_list() == ["caf\ufffd", None, "n"]
    assert chunk.lossy


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n\n", "is empty"),
        ("header.csv", HEADER, "no data rows"),
        ("columns.csv", b"uniq_id,name\n1,2\n", "product_name, product_category_tree"),
        ("twice.csv", b"uniq_id,product_name,product_category_tree,brand,brand\n1", "than once"),
        ("broken.csv", HEADER + b"1,2,3,4\n" * 20_000, "RFC 4180"),
        ("wide.csv", HEADER.decode().encode("utf-16"), "utf-16"),
        ("binary.csv", b"PK\x03\x04\x00\x00", "no UTF-8 text"),
        ("no.csv.gz", HEADER + b"1,2,3\n", "cannot be read"),
        ("cut.csv.gz", gzip.compress(HEADER + b"1,2,3\n" * 9999)[:-20], "cannot be read"),
        ("no.csv.zst", HEADER, "cannot be read"),
        ("broken.parquet", b"no parquet", "cannot be read"),
        ("catalog.xlsx", b"PK", "ending"),
    ],
)
def test_says_what_is_wrong_with_a_file(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CatalogError) as raised:
        rows(path)
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
        ("nosuch://bucket/c.csv", "cannot be read"),
        ("memory://nowhere/absent", "ending"),
    ):
        with pytest.raises(CatalogError, match=says):
            rows(uri)
    with pytest.raises(CatalogError, match="not found"):
        catalog_version(str(tmp_path / "absent.csv"))


def test_an_error_of_the_reader_of_the_rows_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,2,3\n")
    with pytest.raises(ZeroDivisionError), open_catalog(str(path)):
        raise ZeroDivisionError


def test_nested_and_empty_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    columns = {"uniq_id": ["1"], "product_name": ["n"], "product_category_tree": [["a", "b"]]}
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(CatalogError, match="nested column"):
        rows(path)
    pl.DataFrame(columns).clear().write_parquet(path)
    with pytest.raises(CatalogError, match="no data rows"):
        rows(path)


def test_the_rows_of_a_parquet_file_give_themselves_back_as_json(tmp_path: Path) -> None:
    columns = {"uniq_id": [1, 2], "product_name": ["n", None], "product_category_tree": ["a", "b"]}
    pl.DataFrame(columns).write_parquet(tmp_path / "c.parquet")
    (chunk,) = chunks(tmp_path / "c.parquet")
    assert chunk.rows["product_id"].to_list() == ["1", "2"]
    expected = '{"uniq_id": "2", "product_name": null, "product_category_tree": "b"}'
    assert chunk.raw(2) == expected


def test_version_is_the_content_hash_and_the_state_needs_no_reading(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(HEADER + b"1,2,3\n")
    assert catalog_version(str(path)) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    before = catalog_state(str(path))
    path.write_bytes(HEADER + b"1,2,4567\n")
    assert catalog_state(str(path))["size"] == before["size"] + 3
