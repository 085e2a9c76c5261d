"""Building an index beside an earlier one: what is embedded, taken over, resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retail_assistant.catalog.embedding import DIMENSIONS, embed
from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.suggestion_quality import suggestion_quality
from retail_assistant.catalog.vectors import KEY, KnownVectors, VectorFile
from retail_assistant_tests.catalog.test_index import ROWS, product_frame, product_id

QUERIES = ["women", "party wear", "linen for men", "Zed Casual Sleeveless Printed Top", ""]
BUILD = """
import sys
from pathlib import Path
import polars as pl
from retail_assistant.catalog import vectors
from retail_assistant.catalog.index_writer import build_index
vectors.CHUNK_TEXTS = 2
def told(done, total, note):
    print(done, flush=True)
products = pl.read_parquet(sys.argv[1])
print("built", build_index(products, Path(sys.argv[2]), None, told).embedded)
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before") / "index"
    build_index(product_frame(), folder)
    return folder


def changed_frame() -> pl.DataFrame:
    """One product renamed, one with another description, one gone, one new."""
    name = pl.col("name").replace({"Solo Scarf": "Solo Silk Scarf"})
    is_first = pl.col("product_id") == product_id(0)
    description = pl.when(is_first).then(pl.lit("Other words.")).otherwise("description")
    frame = product_frame().with_columns(name, description.alias("description"))
    new = frame.head(1).with_columns(product_id=pl.lit("f" * 32), name=pl.lit("Nova Jacket"))
    return pl.concat([frame.filter(pl.col("product_id") != product_id(5)), new])


def test_only_new_texts_are_embedded_and_the_result_is_the_same(
    before: Path, tmp_path: Path
) -> None:
    summary = build_index(changed_frame(), tmp_path / "after", before)
    assert (summary.embedded, summary.reused, summary.removed) == (2, len(ROWS) - 2, 1)
    assert summary.products == summary.embedded + summary.reused
    anew = build_index(changed_frame(), tmp_path / "anew")
    assert (anew.embedded, anew.reused, anew.removed) == (len(ROWS), 0, 0)
    after, fresh = CatalogIndex.open(tmp_path / "after"), CatalogIndex.open(tmp_path / "anew")
    assert after.search_many(QUERIES, 5) == fresh.search_many(QUERIES, 5)
    for found in fresh.product_ids():
        assert after.product(found) == fresh.product(found)
        assert after.alternatives(found) == fresh.alternatives(found)
        assert after.complements(found) == fresh.complements(found)
    assert after.product(product_id(5)) is None


def test_a_lazy_frame_of_a_file_is_the_same_catalog(before: Path, tmp_path: Path) -> None:
    product_frame().write_parquet(tmp_path / "products.parquet")
    build_index(pl.scan_parquet(tmp_path / "products.parquet"), tmp_path / "index")
    index = CatalogIndex.open(tmp_path / "index")
    assert index.search_many(QUERIES, 5) == CatalogIndex.open(before).search_many(QUERIES, 5)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
@pytest.mark.fault(
    "The index before is damaged, cut off or something else",
    "The new one is built without it, all texts embedded anew",
)
def test_a_previous_index_that_cannot_be_read_is_built_without(
    before: Path, tmp_path: Path, damage: str
) -> None:
    previous = tmp_path / "previous"
    if damage == "empty":
        (previous / "products.lance").mkdir(parents=True)
    elif damage == "foreign":
        import lancedb

        lancedb.connect(previous).create_table("products", pl.DataFrame({"a": [1]}).to_arrow())
    elif damage == "cut":
        subprocess.run(["cp", "-r", before, previous], check=True)
        for file in (previous / "products.lance" / "data").iterdir():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    summary = build_index(product_frame(), tmp_path / "index", previous)
    assert summary.embedded == len(ROWS)
    assert summary.reused == 0
    assert len(CatalogIndex.open(tmp_path / "index")) == len(ROWS)


def test_progress_counts_distinct_texts(before: Path, tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    twin = product_frame().head(1).with_columns(product_id=pl.lit("e" * 32))
    frame = pl.concat([changed_frame(), twin.with_columns(name=pl.lit("Solo Silk Scarf"))])
    build_index(frame, tmp_path / "i", before, lambda done, total, _: told.append((done, total)))
    assert told[0] == (len(ROWS) - 2, len(ROWS) + 1)
    assert told[-1] == (len(ROWS) + 1, len(ROWS) + 1)


@pytest.mark.fault(
    "the build of a search index is killed",
    "the next one goes on with the vectors that it had",
)
def test_a_killed_build_goes_on_where_it_was(tmp_path: Path) -> None:
    product_frame().write_parquet(tmp_path / "products.parquet")
    command = [sys.executable, "-c", BUILD, str(tmp_path / "products.parquet")]
    process = subprocess.Popen(
        [*command, str(tmp_path / "index")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 6:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait(timeout=60)
    assert not (tmp_path / "index").exists()
    told: list[float] = []
    summary = build_index(
        product_frame(), tmp_path / "index", None, lambda done, _total, _note: told.append(done)
    )
    assert told[0] >= 6
    assert summary.embedded == summary.products == len(ROWS)
    fresh = tmp_path / "fresh"
    build_index(product_frame(), fresh)
    assert CatalogIndex.open(tmp_path / "index").search_many(QUERIES, 5) == CatalogIndex.open(
        fresh
    ).search_many(QUERIES, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fresh",
        "index",
        "products.parquet",
    ]


def vector_file(names: list[str], folder: Path) -> VectorFile:
    keys = [f"{name:0>32}" for name in names]
    return VectorFile(pl.DataFrame({KEY: keys, "text": names}), folder)


def test_vectors_come_back_by_key_in_the_order_asked(tmp_path: Path) -> None:
    file = vector_file(["b", "a", "c"], tmp_path / "v")
    known = KnownVectors(
        np.array(["0" * 31 + "c", "f" * 32, "0" * 32], dtype="S32"),
        np.stack([np.full(DIMENSIONS, n, dtype=np.float32) for n in (3, 4, 5)]),
    )
    file.fill([known], lambda *_: None)
    keys = pl.Series(["0" * 31 + letter for letter in "cabc"])
    vectors = file.vectors(keys)
    assert file.reused(keys).tolist() == [True, False, False, True]
    assert (vectors[0] == 3).all()
    assert abs(vectors[1] - embed(["a"])[0]).max() < 1e-5
    assert abs(vectors[2] - embed(["b"])[0]).max() < 1e-5


@pytest.mark.fault(
    "The vectors of a killed index build are cut off, or of another catalog",
    "They are computed again",
)
def test_vectors_of_another_catalog_and_files_cut_short_are_not_trusted(tmp_path: Path) -> None:
    vector_file(["a", "b"], tmp_path / "v").fill([], lambda *_: None)
    told: list[float] = []
    again = vector_file(["a", "b"], tmp_path / "v")
    again.fill([], lambda done, _total, _note: told.append(done))
    assert told == [2]
    data = again.folder / "vectors.f32"
    data.write_bytes(data.read_bytes()[:-4])
    told.clear()
    vector_file(["a", "b"], tmp_path / "v").fill([], lambda done, *_: told.append(done))
    assert told == [0, 2]
    other = vector_file(["a", "c"], tmp_path / "v")
    assert [path.name for path in (tmp_path / "v").iterdir()] == [other.folder.name]


def test_suggestions_are_measured_with_their_denominators(before: Path) -> None:
    quality = suggestion_quality(CatalogIndex.open(before), sample=100, k=2)
    assert quality.sample == len(ROWS)
    for kind in (quality.alternatives, quality.complements):
        assert kind.covered.of == len(ROWS)
        assert kind.valid.of == kind.closeness.pairs > 0
        assert kind.valid.rate == 1.0
    assert 0 < quality.alternatives.valid_at_random.count < quality.alternatives.valid_at_random.of
    assert quality.alternatives.closeness.price_ratio == 1.0
