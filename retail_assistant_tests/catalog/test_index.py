"""The search index on real LanceDB and the real packaged MiniLM, over small frames."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from retail_assistant.catalog import embedding, garments
from retail_assistant.catalog.embedding import DIMENSIONS
from retail_assistant.catalog.filters import ProductFilter
from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import IndexSummary, build_index
from retail_assistant.catalog.publication import CatalogIndexError
from retail_assistant.catalog.suggestions import is_alternative, is_complement

WOMEN, MEN = "Women's Clothing", "Men's Clothing"
TOPS, DRESSES, KURTAS, SHIRTS = "Tops", "Dresses", "Kurtas", "Shirts"
LOWERS = "Jeans, Trousers & More"

ROWS: list[tuple[str, str, str | None, str | None, dict[str | None, str]]] = [
    ("Zed Casual Sleeveless Printed Women's Top", "Zed", WOMEN, TOPS, {"Fabric": "Cotton"}),
    ("Zed Casual Sleeveless Printed Women's Top", "Zed", WOMEN, TOPS, {"Fabric": "Rayon"}),
    ("Zed Casual Full Sleeve Printed Women's Top", "Zed", WOMEN, TOPS, {"Fabric": "Silk"}),
    ("Zed Casual Half Sleeve Solid Women's Top", "Zed", WOMEN, TOPS, {"Occasion": "Party"}),
    ('Quill "Lux" (A+B) Top -50%', "Quill", WOMEN, TOPS, {None: "100% Cotton"}),
    ("Marla Party Maxi Dress", "Marla", WOMEN, DRESSES, {"Occasion": "Party"}),
    ("Marla Summer Mini Dress", "Marla", WOMEN, DRESSES, {"Occasion": "Beach"}),
    ("Anvi Festive Women's Kurta", "Anvi", WOMEN, KURTAS, {"Occasion": "Festive, Party"}),
    ("Kurta", "Anvi", WOMEN, KURTAS, {"Fabric": "Linen"}),
    ("Bolt Slim Fit Men's Shirt", "Bolt", MEN, SHIRTS, {"Fabric": "Denim"}),
    ("Bolt Slim Fit Men's Skirt Liner", "Bolt", MEN, SHIRTS, {"Fabric": "Linen"}),
    ("Oriel T-Shirt", "Oriel", MEN, None, {"Fabric": "Jersey"}),
    ("Solo Scarf", "Solo", None, None, {}),
    ("Delta Solid Men's Chinos", "Delta", MEN, LOWERS, {"Fabric": "Cotton, Polyester"}),
    ("Delta Striped Men's Jeans", "Delta", MEN, LOWERS, {"Fabric": "DENIM"}),
    ("Delta Men's Boxers", "Delta", MEN, LOWERS, {"Fabric": "Cotton"}),
]


def product_id(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()[:32]


def product_frame() -> pl.DataFrame:
    rows = [
        {
            "product_id": product_id(number),
            "name": name,
            "brand": brand,
            "description": f"A fine piece by {brand}." if number % 2 else None,
            "description_keywords": ["fine", "piece"],
            "categories": [level for level in ("Clothing", category, subcategory) if level],
            "department": "Clothing",
            "category": category,
            "subcategory": subcategory,
            "attributes": [{"name": key, "value": value} for key, value in attributes.items()],
            "image_urls": [],
            "retail_price": 999.0,
            "discounted_price": None,
            "source_row": number + 1,
            "content_hash": sha256(name.encode()).hexdigest(),
        }
        for number, (name, brand, category, subcategory, attributes) in enumerate(ROWS)
    ]
    overrides: dict[str, Any] = {
        "description_keywords": pl.List(pl.String),
        "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
        "image_urls": pl.List(pl.String),
        "discounted_price": pl.Float64,
        "source_row": pl.UInt32,
    }
    return pl.DataFrame(rows, schema_overrides=overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index") / "catalog_index"


@pytest.fixture(scope="module")
def summary(folder: Path) -> IndexSummary:
    return build_index(product_frame(), folder)


@pytest.fixture(scope="module")
def index(folder: Path, summary: IndexSummary) -> CatalogIndex:
    assert summary.products
    return CatalogIndex.open(folder)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["product_id"] for row in rows]


def test_summary_counts_products_and_names(summary: IndexSummary, folder: Path) -> None:
    assert summary.products == len(ROWS)
    assert summary.distinct_names == len(ROWS) - 1
    assert summary.dimensions == DIMENSIONS
    assert summary.size_bytes > 0
    assert not folder.with_name("catalog_index.partial").exists()


def test_product_is_the_whole_row(index: CatalogIndex) -> None:
    for row in product_frame().iter_rows(named=True):
        assert index.product(row["product_id"]) == row
    assert index.product("no such id") is None
    assert index.product("x' OR '1'='1") is None


@pytest.mark.parametrize(
    "question",
    [
        "What is the fabric of {name} (item {code})?",
        "What is the fabric of item {code}?",
        "item #{CODE} please",
        "Tell me about {id}.",
        "Is {code} any good?",
    ],
)
def test_item_code_or_id_wins_over_the_name(index: CatalogIndex, question: str) -> None:
    for number in (0, 1, 9):
        wanted = product_id(number)
        code = wanted[:8]
        query = question.format(name=ROWS[5][0], code=code, CODE=code.upper(), id=wanted)
        found = index.search(query)
        if any(map(str.isdigit, code)):
            assert (found[0]["product_id"], found[0]["match"]) == (wanted, "item")
        assert len(found) == 2


def test_every_name_in_a_question_finds_its_product(index: CatalogIndex) -> None:
    names = [name for name, *_ in ROWS]
    found = index.search_many([f"What is the fabric of {name}?" for name in names])
    for number, rows in enumerate(found):
        same = [product_id(n) for n, name in enumerate(names) if name == names[number]]
        if names[number] == "Kurta":  # A word of other names, so no name by itself.
            assert rows[0]["match"] == "hybrid"
        else:
            assert sorted(ids(rows[: len(same)])) == sorted(same)
            assert rows[0]["match"] == "name"


def test_products_of_one_name_are_ranked_by_the_question(index: CatalogIndex) -> None:
    question = "Is there a {} Zed Casual Sleeveless Printed Womens top?"
    assert ids(index.search(question.format("cotton")))[0] == product_id(0)
    assert ids(index.search(question.format("rayon")))[0] == product_id(1)


def test_two_names_in_one_question_both_come_back(index: CatalogIndex) -> None:
    found = index.search(
        "Compare the Marla Party Maxi Dress with the bolt slim fit men\u2019s shirt"
    )
    assert ids(found) == [product_id(5), product_id(9)]


@pytest.mark.parametrize(
    ("question", "number"),
    [
        ("fabric of marla sumer mini dress", 6),
        ("fabric of Marla Summer Mini Drses?", 6),
        ("What is Zed Casul Full Sleeve Prinnted Women's Top made of?", 2),
        ("the oriel tshirt", 11),
        ("the anvi festivve womens kurta", 7),
    ],
)
def test_a_name_with_typos_is_found(index: CatalogIndex, question: str, number: int) -> None:
    first = index.search(question)[0]
    assert (first["product_id"], first["match"]) == (product_id(number), "typo")
    assert 0.8 < first["score"] < 1.0


@pytest.mark.parametrize(
    "question",
    [
        "What is the fabric of Bolt Slim Fit Men's Skirt?",  # not a misspelt Shirt
        "What is the fabric of Zorvex Casual Sleeveless Printed Women's Top?",
        "What is the fabric of Zed Casual Half Sleeve Printed Women's Top?",
    ],
)
def test_a_name_that_is_not_in_the_catalog_is_no_typo(index: CatalogIndex, question: str) -> None:
    assert index.search(question)[0]["match"] == "hybrid"


def test_meaning_is_found_where_no_word_agrees(index: CatalogIndex) -> None:
    found = index.search("gown for an evening celebration", k=3)
    assert product_id(5) in ids(found)
    assert {row["match"] for row in found} == {"hybrid"}
    assert all(0.0 < row["score"] <= 1.0 for row in found)


@pytest.mark.parametrize("query", ["", " ", "?!", "\ud800", "the", "kurta", "Solo Scarf"])
@pytest.mark.parametrize("k", [1, 2, 5, len(ROWS), len(ROWS) + 5])
def test_search_returns_k_products_where_there_are_k(
    index: CatalogIndex, query: str, k: int
) -> None:
    found = ids(index.search(query, k))
    assert len(found) == len(set(found)) == min(k, len(ROWS))


def test_search_many_agrees_with_search(index: CatalogIndex) -> None:
    queries = ["party wear", "Solo Scarf", "", "something in denim", f"item {product_id(3)[:8]}"]
    assert index.search_many(queries, 3) == [index.search(query, 3) for query in queries]
    assert index.search_many([]) == []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.text(max_size=60)
    | st.text("()\"+-*?:~^\\/'& ANDORNOT", max_size=40)
    | st.sampled_from([name for name, *_ in ROWS]).flatmap(
        lambda name: st.text(max_size=8).map(lambda text: f'{text}("{name} +{text}')
    )
)
def test_no_query_raises(index: CatalogIndex, query: str) -> None:
    assert len(index.search(query)) == 2


def test_a_very_long_query_is_cut(index: CatalogIndex) -> None:
    assert len(index.search("Marla Party Maxi Dress " + "blue denim " * 100_000)) == 2


def test_two_builds_answer_alike(index: CatalogIndex, tmp_path: Path) -> None:
    shuffled = product_frame().sample(fraction=1.0, shuffle=True, seed=3)
    build_index(shuffled, tmp_path / "again")
    again = CatalogIndex.open(tmp_path / "again")
    queries = ["women", "a top", "cotton", "linen for men", "Zed Casual Sleeveless Printed Top"]
    assert again.search_many(queries, 5) == index.search_many(queries, 5)
    assert again.alternatives(product_id(0), 3) == index.alternatives(product_id(0), 3)


def test_alternatives_share_the_subcategory_and_prefer_other_names(index: CatalogIndex) -> None:
    found = index.alternatives(product_id(0), k=4)
    assert {row["subcategory"] for row in found} == {TOPS}
    assert product_id(0) not in ids(found)
    assert ids(found)[-1] == product_id(1)  # the same name comes last
    assert {row["match"] for row in found} == {"alternative"}


def test_alternatives_fall_back_to_the_category(index: CatalogIndex) -> None:
    found = index.alternatives(product_id(11), k=2)
    assert {row["category"] for row in found} == {MEN}
    assert index.alternatives(product_id(12)) == []


def test_complements_are_worn_with_the_product(index: CatalogIndex) -> None:
    found = index.complements(product_id(9), k=3)  # a men's shirt
    assert ids(found) == [product_id(13), product_id(14)]
    assert {row["match"] for row in found} == {"complement"}
    assert ids(index.complements(product_id(13), k=3))[0] == product_id(9)
    assert index.complements(product_id(3)) == []  # a top: there are only dresses and kurtas
    assert index.complements(product_id(15)) == []  # underwear
    assert index.complements(product_id(11)) == []  # without a subcategory
    assert index.complements(product_id(12)) == []  # without a category


def test_the_rules_say_the_same_of_rows_at_hand(index: CatalogIndex) -> None:
    rows = product_frame().with_columns(garments.kind(), garments.audience()).to_dicts()
    everything = len(rows)
    suggested = 0
    for row in rows:
        for fits, found in (
            (is_alternative, index.alternatives(row["product_id"], k=everything)),
            (is_complement, index.complements(row["product_id"], k=everything)),
        ):
            assert {other["product_id"] for other in rows if fits(row, other)} == set(ids(found))
            suggested += len(found)
    assert suggested > everything


def test_alternatives_are_of_the_same_kind(index: CatalogIndex) -> None:
    assert ids(index.alternatives(product_id(13))) == [product_id(14)]
    assert index.alternatives(product_id(15)) == []


def test_suggestions_for_an_unknown_product_are_refused(index: CatalogIndex) -> None:
    with pytest.raises(CatalogIndexError, match="has no product"):
        index.alternatives("x'y")
    with pytest.raises(CatalogIndexError, match="has no product"):
        index.complements("")


def test_opening_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogIndexError, match="holds no catalog index"):
        CatalogIndex.open(tmp_path)


@pytest.mark.fault(
    "The index is to be built of nothing, or of one id twice",
    "One line says so, and no index is left",
)
def test_products_that_cannot_be_indexed_are_refused(tmp_path: Path) -> None:
    frame = product_frame()
    with pytest.raises(CatalogIndexError, match="no products"):
        build_index(frame.clear(), tmp_path / "i")
    with pytest.raises(CatalogIndexError, match="lack the columns brand, attributes"):
        build_index(frame.drop("brand", "attributes"), tmp_path / "i")
    with pytest.raises(CatalogIndexError, match=f"{product_id(0)} more than once"):
        build_index(pl.concat([frame, frame.head(1)]), tmp_path / "i")
    assert not (tmp_path / "i").exists()


@pytest.mark.fault(
    "The index was built by another embedding model",
    "It is refused in one line; built again, no vector is taken over",
)
def test_an_index_of_another_embedding_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(product_frame(), tmp_path / "i")
    assert CatalogIndex.open(tmp_path / "i").search("Solo Scarf", 1)
    monkeypatch.setattr(embedding, "EMBEDDING_VERSION", "of another model")
    with pytest.raises(CatalogIndexError, match=r"another embedding model .* build catalog_index"):
        CatalogIndex.open(tmp_path / "i").search("Solo Scarf", 1)
    assert build_index(product_frame(), tmp_path / "j", tmp_path / "i").reused == 0
    assert CatalogIndex.open(tmp_path / "j").search("Solo Scarf", 1)


def test_a_rebuild_replaces_the_index(tmp_path: Path) -> None:
    (tmp_path / "i.partial").mkdir()
    (tmp_path / "i.partial" / "left by a killed build").touch()
    build_index(product_frame(), tmp_path / "i")
    assert build_index(product_frame().head(3), tmp_path / "i").products == 3
    assert len(CatalogIndex.open(tmp_path / "i")) == 3


def test_named_products_are_found_without_torch(index: CatalogIndex) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from retail_assistant.catalog.index import CatalogIndex\n"
        "index = CatalogIndex.open(Path(sys.argv[1]))\n"
        "queries = ['Solo Scarf', 'marla sumer mini dress', 'item ' + sys.argv[2], '']\n"
        "print([rows[0]['match'] for rows in index.search_many(queries)])\n"
        "index.alternatives(sys.argv[2]), index.complements(sys.argv[2])\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(index.folder), product_id(0)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["['name', 'typo', 'item', 'fill']", "[]"]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"attributes": {"Fabric": "Cotton"}}, {0, 13, 15}),
        ({"attributes": {"fabric": "cotton", "FABRIC": "COTTON"}}, {0, 13, 15}),
        ({"attributes": {"Fabric": "polyester"}}, {13}),
        ({"attributes": {"Fabric": "Cotton, Polyester"}}, {13}),
        ({"attributes": {"Fabric": "denim"}, "subcategory": "shirts"}, {9}),
        ({"category": "mens clothing", "brand": "DELTA"}, {13, 14, 15}),
        ({"department": "clothing", "subcategory": "kurtas"}, {7, 8}),
        ({"attributes": {"Occasion": "Party"}}, {3, 5, 7}),
        ({"min_price": 999, "category": "Women's Clothing", "subcategory": "Dresses"}, {5, 6}),
        ({"max_price": 998.99}, set()),
        ({"attributes": {"Fabric": "x' OR '1'='1"}}, set()),
        ({"attributes": {"Fabric": "%"}}, set()),
        ({"attributes": {"": ""}}, set()),
        ({"category": "|:category=men clothing|"}, set()),
    ],
)
@pytest.mark.parametrize("query", ["", "cotton", "Solo Scarf", "something nice to wear"])
def test_only_what_passes_the_filters_comes_back(
    index: CatalogIndex, query: str, filters: dict[str, Any], numbers: set[int]
) -> None:
    found = index.search(query, k=len(ROWS), filters=ProductFilter.model_validate(filters))
    assert set(ids(found)) == {product_id(number) for number in numbers}


def test_a_named_product_that_passes_the_filters_comes_first(index: CatalogIndex) -> None:
    query = "Zed Casual Sleeveless Printed Women's Top"
    rayon = ProductFilter(attributes={"Fabric": "rayon"})
    assert [row["match"] for row in index.search(query, 3, rayon)] == ["name"]
    assert ids(index.search(query, 3, rayon)) == [product_id(1)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_of_a_filter_raises_or_widens_it(
    index: CatalogIndex, name: str, value: str
) -> None:
    found = index.search("top", 20, ProductFilter(brand="Zed", attributes={name: value}))
    assert set(ids(found)) <= {product_id(number) for number in range(4)}


def test_a_filter_that_nothing_can_pass_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_price 5 is above max_price 1"):
        ProductFilter(min_price=5, max_price=1)
    with pytest.raises(ValidationError, match="colour"):
        ProductFilter.model_validate({"colour": "red"})
