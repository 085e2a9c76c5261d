"""Near duplicates against the definition: all pairs, compared one by one."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from retail_assistant.catalog.clean import clean_catalog
from retail_assistant.catalog.near_duplicates import (
    SCHEMA,
    near_duplicates,
    write_near_duplicates,
)
from retail_assistant.catalog.schema import ATTRIBUTE
from retail_assistant.catalog.synthesize import write_catalog
from retail_assistant.catalog.term_sets import product_terms, similarities

Attributes = Sequence[tuple[str | None, str]]
LOOKS = [("Fabric", "Cotton"), ("Neck", "Round Neck"), ("Sleeve", "Half Sleeve"), ("Fit", "Slim")]
TEXT = st.text(alphabet="ab Zß-_'!éक", max_size=8)


def products(*rows: tuple[str, str, Attributes]) -> pl.LazyFrame:
    """product_id, name and attributes of (id, name, attributes)."""
    stated = [
        (number, name, [{"name": key, "value": value} for key, value in attributes])
        for number, name, attributes in rows
    ]
    schema = {"product_id": pl.String, "name": pl.String, "attributes": pl.List(ATTRIBUTE)}
    return pl.DataFrame(stated, schema=schema, orient="row").lazy()


def clusters(found: pl.DataFrame) -> set[frozenset[str]]:
    groups = found.group_by("cluster_id").agg("product_id")["product_id"]
    return {frozenset(ids) for ids in groups.to_list()}


def plain(name: str) -> tuple[str, ...]:
    return tuple("".join(c if c.isalnum() else " " for c in name.lower()).split())


def terms_of(name: str, attributes: list[dict[str, str | None]]) -> frozenset[str]:
    """The words of a name and the whole attributes, told apart from words by their "="."""
    stated = (f"{entry['name'] or ''}={entry['value']}".lower() for entry in attributes)
    return frozenset([*plain(name), *stated])


def by_all_pairs(frame: pl.DataFrame, similarity: float = 0.8) -> set[frozenset[str]]:
    """The clusters by their definition."""
    from networkx import Graph, connected_components

    columns = ("product_id", "name", "attributes")
    rows = [
        (number, plain(name), terms_of(name, attributes))
        for number, name, attributes in frame.select(columns).iter_rows()
    ]
    graph = Graph()
    for (left, name, terms), (right, other, others) in combinations(rows, 2):
        alike = terms and others and len(terms & others) >= similarity * len(terms | others)
        if alike or (name and name == other):
            graph.add_edge(left, right)
    return {frozenset(cluster) for cluster in connected_components(graph)}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("synthetic")
    write_catalog(folder / "catalog.csv", rows=2000, seed=4)
    return pl.read_parquet(clean_catalog(str(folder / "catalog.csv"), folder).products)


def test_equal_names_are_one_cluster_whatever_their_attributes() -> None:
    found = near_duplicates(
        products(
            ("c", "Zed Top", [("Fabric", "Cotton")]),
            ("a", "ZED  top!", [("Fabric", "Silk"), ("Neck", "Boat")]),
            ("b", "Zed Dress", [("Fabric", "Cotton")]),
        )
    )
    assert found.schema == SCHEMA
    assert found.rows() == [("c", "a", 2, pytest.approx(0.4)), ("a", "a", 2, 1.0)]


def test_nearly_equal_names_and_attributes_are_one_cluster() -> None:
    found = near_duplicates(
        products(
            ("1", "Zed Casual Printed Women's Top", [*LOOKS, ("Color", "Red")]),
            ("2", "Zed Casual Printed Women's Top -", LOOKS),
            ("3", "Zed Casual Printed Women's Top New", LOOKS),
            ("4", "Quill Party Solid Men's Shirt", LOOKS),
            ("5", "Top Zed Casual Printed Women's", [*LOOKS, ("Color", "Red")]),
        )
    )
    assert clusters(found) == {frozenset("1235")}
    assert dict(zip(found["product_id"], found["similarity"], strict=True))["5"] == 1.0


def test_what_says_nothing_is_like_nothing() -> None:
    rows = [("1", "!!", []), ("2", "--", []), ("3", "Zed", []), ("4", "Quill", [])]
    assert near_duplicates(products(*rows)).is_empty()
    assert near_duplicates(products()).schema == SCHEMA


def test_a_catalog_of_one_name_is_one_cluster() -> None:
    rows = [(f"{n:05}", "Zed Top", [("Code", str(n))]) for n in range(20_000, 0, -1)]
    found = near_duplicates(products(*rows))
    assert found["cluster_id"].unique().to_list() == ["00001"]
    assert found["size"].unique().to_list() == [20_000]
    assert found["product_id"].to_list() == [number for number, _, _ in rows]


def test_synthetic_products_are_clustered_as_by_all_pairs(
    synthetic: pl.DataFrame, tmp_path: Path
) -> None:
    summary = write_near_duplicates(synthetic.lazy(), tmp_path / "found.parquet")
    found = pl.read_parquet(tmp_path / "found.parquet")
    expected = by_all_pairs(synthetic)
    assert len(expected) > 50
    assert clusters(found) == expected
    assert (summary.products, summary.clusters) == (synthetic.height, len(expected))
    assert summary.clustered == found.height == sum(map(len, expected))
    assert summary.largest == max(map(len, expected)) == found["size"].max()
    assert [path.name for path in tmp_path.iterdir()] == ["found.parquet"]


def test_real_products_are_clustered_as_by_all_pairs(real_catalog: Path, tmp_path: Path) -> None:
    real = pl.read_parquet(clean_catalog(str(real_catalog), tmp_path).products)
    assert clusters(near_duplicates(real.lazy())) == by_all_pairs(real)


def test_the_order_of_the_products_does_not_matter(synthetic: pl.DataFrame) -> None:
    shuffled = synthetic.sample(fraction=1, shuffle=True, seed=5)
    assert_frame_equal(
        near_duplicates(shuffled.lazy()), near_duplicates(synthetic.lazy()), check_row_order=False
    )


@pytest.mark.parametrize("similarity", [0.5, 0.95, 1.0])
def test_other_similarities_find_what_all_pairs_find(
    synthetic: pl.DataFrame, similarity: float
) -> None:
    some = synthetic.head(400)
    found = near_duplicates(some.lazy(), similarity=similarity)
    assert clusters(found) == by_all_pairs(some, similarity)


@pytest.mark.parametrize("similarity", [0.0, -0.1, 1.1, float("nan")])
def test_a_similarity_beyond_its_range_is_refused(similarity: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        near_duplicates(products(("1", "Zed", [])), similarity=similarity)


def test_signatures_are_those_of_datasketch(synthetic: pl.DataFrame) -> None:
    from datasketch import MinHash

    terms = product_terms(synthetic.head(20))
    family = MinHash(64, seed=1, scheme="affine32")
    signatures = terms.signatures(*family.permutations)
    own = np.split(terms.terms, np.cumsum(terms.counts)[:-1])
    for column, hashes in zip(signatures.T, own, strict=True):
        sketch = MinHash(64, seed=1, scheme="affine32", hashfunc=int)
        sketch.update_batch(hashes.tolist())
        assert column.tolist() == sketch.hashvalues.tolist()


@given(
    st.lists(st.tuples(TEXT, st.lists(st.tuples(st.none() | TEXT, TEXT), max_size=4)), max_size=6)
)
def test_similarities_are_those_of_the_sets(rows: list[tuple[str, Attributes]]) -> None:
    frame = products(*((str(n), *row) for n, row in enumerate(rows))).collect()
    terms = product_terms(frame)
    sets = [terms_of(row["name"], row["attributes"]) for row in frame.iter_rows(named=True)]
    assert terms.counts.tolist() == list(map(len, sets))
    pairs = np.array(list(combinations(range(len(sets)), 2)), dtype=np.int64).reshape(-1, 2)
    ends = np.cumsum(terms.counts, dtype=np.int64)
    measured = similarities(terms.terms, terms.counts, ends, pairs[:, 0], pairs[:, 1])
    wanted = [len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])) for i, j in pairs]
    assert measured.tolist() == pytest.approx(wanted)
