"""What is kept in memory gives what the index gives."""

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex, open_table
from retail_assistant.corpus.retrieval import retrieve
from retail_assistant.serving.understanding.stock import MOST_SUGGESTED, Stock
from retail_assistant_tests.catalog import lancedb_suggestions


@pytest.fixture(scope="module")
def stock(shop_index: CatalogIndex) -> Stock:
    return Stock(shop_index)


@pytest.mark.parametrize(
    "question",
    [
        "What is the fabric of {}?",
        "Do you have something like {}?",
        "What goes with {}?",
        "{} or item 67e9e228",
    ],
)
def test_retrieval_is_the_same(
    stock: Stock, shop_index: CatalogIndex, shop_products: pl.DataFrame, question: str
) -> None:
    for name in shop_products["name"].gather_every(40):
        asked = [question.format(name)]
        assert retrieve(asked, stock) == retrieve(asked, shop_index)


def test_nameless_questions_get_the_nearest(stock: Stock, shop_index: CatalogIndex) -> None:
    asked = ["something warm for the winter"]
    assert retrieve(asked, stock) == retrieve(asked, shop_index)


def test_every_reference_finds_its_product_alone(stock: Stock, shop_index: CatalogIndex) -> None:
    for product_id in stock.shelves.ids:
        found = shop_index.mentioned(f"Tell me about {stock.reference(product_id)}.")
        assert found == [[product_id]]


def test_suggestions_are_those_of_queries_to_the_index(
    stock: Stock, shop_index: CatalogIndex
) -> None:
    table = open_table(shop_index.folder)
    for product_id in stock.shelves.ids[::20]:
        for found, by_query in (
            (stock.alternatives(product_id, MOST_SUGGESTED), lancedb_suggestions.alternatives),
            (stock.complements(product_id, MOST_SUGGESTED), lancedb_suggestions.complements),
        ):
            ranking = [(row["product_id"], row["score"]) for row in found]
            expected = by_query(table, product_id, MOST_SUGGESTED)
            assert lancedb_suggestions.agree(ranking, expected), product_id


def test_suggestions_are_promised_only_where_there_are_some(stock: Stock) -> None:
    for product_id in stock.shelves.ids[::25]:
        alternatives, complements = stock.may_suggest(product_id)
        assert alternatives == bool(stock.alternatives(product_id, 1))
        assert complements == bool(stock.complements(product_id, 1))


def test_rows_are_the_products(
    stock: Stock, shop_index: CatalogIndex, shop_products: pl.DataFrame
) -> None:
    wanted = shop_products["product_id"].gather_every(50).to_list()
    assert stock.products([*wanted, "unknown"]) == [shop_index.product(one) for one in wanted]
