"""What the index finds in memory is what queries to its table find."""

from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lancedb.table import Table  # noqa: TID253 (no code location is loaded here)

from retail_assistant.catalog.assortment import AssortmentPolicy, select_assortment
from retail_assistant.catalog.embedding import DIMENSIONS, embedding_key, embedding_text
from retail_assistant.catalog.index import TABLE, CatalogIndex, open_table
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.neighbours import READ, Neighbours
from retail_assistant.catalog.publication import CatalogIndexError
from retail_assistant.catalog.synthesize import synthesize
from retail_assistant.catalog.vectors import KEY
from retail_assistant_tests.catalog import lancedb_suggestions
from retail_assistant_tests.catalogs import cleaned_frame

PRODUCTS = 2000
ASKED_FOR = 40
K = 12


@cache
def direction(word: str) -> np.ndarray:
    """A direction of a word's own."""
    seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
    return np.random.default_rng(seed).standard_normal(DIMENSIONS)


def word_vector(text: str) -> np.ndarray:
    """A text as its words, each in a direction of its own: likeness enough, without a model."""
    vector = np.sum([direction(word) for word in text.split()], axis=0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 2,000 synthetic products, whose vectors are taken over from one before."""
    import lancedb

    folder = tmp_path_factory.mktemp("synthetic")
    rows = pl.concat(synthesize(3000, seed=5, dirt=0.0))
    catalog = cleaned_frame(rows).products.lazy()
    products = select_assortment(catalog, AssortmentPolicy()).head(PRODUCTS)
    known = products.select("product_id", embedding_key().alias(KEY), text=embedding_text())
    vectors = np.stack([word_vector(text) for text in known["text"]])
    column = pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, DIMENSIONS))
    before = known.drop("text").with_columns(column).to_arrow()
    lancedb.connect(folder / "before").create_table(TABLE, before)
    summary = build_index(products, folder / "index", folder / "before")
    assert (summary.products, summary.embedded) == (PRODUCTS, 0)
    return folder / "index"


@pytest.fixture(scope="module")
def index(folder: Path) -> CatalogIndex:
    return CatalogIndex.open(folder)


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return open_table(folder)


def asked_for(index: CatalogIndex) -> Iterator[str]:
    ids = sorted(index.product_ids())
    yield from ids[:: len(ids) // ASKED_FOR]


@pytest.mark.parametrize("kind", ["alternatives", "complements"])
def test_suggestions_are_those_of_the_table(index: CatalogIndex, table: Table, kind: str) -> None:
    by_query = getattr(lancedb_suggestions, kind)
    in_memory = getattr(index.neighbours, kind)
    same, suggested = 0, 0
    ids = list(asked_for(index))
    for product_id in ids:
        found, expected = in_memory(product_id, K), by_query(table, product_id, K)
        assert lancedb_suggestions.agree(found, expected), product_id
        same += [one for one, _ in found] == [one for one, _ in expected]
        suggested += len(found)
    assert same >= 0.97 * len(ids)
    assert suggested > len(ids)


def test_fewer_suggestions_are_the_first_of_more(index: CatalogIndex) -> None:
    for product_id in asked_for(index):
        for find in (index.neighbours.alternatives, index.neighbours.complements):
            assert find(product_id, 2) == find(product_id, K)[:2]


def test_the_nearest_are_those_of_the_table(index: CatalogIndex, table: Table) -> None:
    vectors = [word_vector(text) for text in ("cotton kurta for a trip", "black", "gym vest")]
    ids = sorted(index.product_ids())
    for vector in vectors:
        expected = lancedb_suggestions.nearest(table, vector, PRODUCTS)
        assert lancedb_suggestions.agree(index.neighbours.nearest(vector, 64), expected[:64])
        few = set(ids[::7])
        found = index.neighbours.nearest(vector, 64, few)
        among = [(one, score) for one, score in expected if one in few]
        assert lancedb_suggestions.agree(found, among[:64])
        assert index.neighbours.nearest(vector, 64, []) == []


def test_equally_near_products_come_by_their_ids(index: CatalogIndex) -> None:
    frame = index.columns(READ)
    twins = frame.with_columns(product_id=pl.col("product_id").str.reverse())
    both = Neighbours(pl.concat([frame, twins]).sample(fraction=1.0, shuffle=True, seed=1))
    ids = sorted((*frame["product_id"], *twins["product_id"]))
    for vector in frame["vector"].head(20):
        found = both.nearest(vector, len(ids))
        assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
        assert sorted(one for one, _ in found) == ids
        score = dict(found)
        assert all(score[one] == score[one[::-1]] for one in ids)


def test_an_unknown_product_has_no_neighbours(index: CatalogIndex) -> None:
    for find in (index.neighbours.alternatives, index.neighbours.complements):
        with pytest.raises(CatalogIndexError, match="has no product 'nobody'"):
            find("nobody", 2)
