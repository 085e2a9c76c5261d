"""Which records a question is answered from, over a real index of seven products."""

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.retrieval import SUGGESTIONS, Retrieved, retrieve

TUNIC = "Quill Women's Tunic"
TWIN = "Zed Printed Women's Top"


def ids(found: Retrieved) -> list[str]:
    return [record["product_id"] for record in found.records]


def names(found: Retrieved) -> list[str]:
    return [record["name"] for record in found.records]


def id_of(catalog: pl.DataFrame, name: str) -> str:
    return str(catalog.filter(name=name)["product_id"].item())


def test_a_named_product_is_the_only_record(
    small_catalog: pl.DataFrame, small_index: CatalogIndex
) -> None:
    (found,) = retrieve([f"What is the fabric of {TUNIC}?"], small_index)
    assert found.named
    assert ids(found) == [id_of(small_catalog, TUNIC)]


def test_two_products_of_one_name_are_both_records(small_index: CatalogIndex) -> None:
    (found,) = retrieve([f"What is the fabric of {TWIN}?"], small_index)
    assert found.named
    assert names(found) == [TWIN, TWIN]


def test_an_item_code_tells_twins_apart(
    small_catalog: pl.DataFrame, small_index: CatalogIndex
) -> None:
    wanted = small_catalog.filter(name=TWIN)["product_id"].max()
    (found,) = retrieve([f"What is the fabric of {TWIN} (item {wanted[:8]})?"], small_index)
    assert found.named
    assert ids(found)[0] == wanted


def test_a_question_that_names_nothing_gets_the_nearest_and_says_so(
    small_index: CatalogIndex,
) -> None:
    (found,) = retrieve(["Is there something festive made of cotton?"], small_index)
    assert not found.named
    assert len(found.records) == 2


@pytest.mark.parametrize(
    "wording",
    [
        "Can you suggest an alternative to {}?",
        "What do you have that is similar to {}?",
        "Anything like {}?",
        "What could I take instead of {}?",
    ],
)
def test_alternatives_come_after_the_product_itself(
    small_catalog: pl.DataFrame, small_index: CatalogIndex, wording: str
) -> None:
    (found,) = retrieve([wording.format(TUNIC)], small_index)
    product_id = id_of(small_catalog, TUNIC)
    suggested = [record["product_id"] for record in small_index.alternatives(product_id)]
    assert found.named
    assert ids(found) == [product_id, *suggested]
    assert len(suggested) == SUGGESTIONS
    assert {record["subcategory"] for record in found.records} == {"Western Wear"}


@pytest.mark.parametrize(
    "wording", ["What goes well with {}?", "What can I wear with {}?", "Complete the look: {}"]
)
def test_complements_come_after_the_product_itself(
    small_catalog: pl.DataFrame, small_index: CatalogIndex, wording: str
) -> None:
    (found,) = retrieve([wording.format(TUNIC)], small_index)
    first, *others = found.records
    assert first["product_id"] == id_of(small_catalog, TUNIC)
    assert {record["subcategory"] for record in others} == {"Ethnic Wear"}
    assert len(others) == SUGGESTIONS


def test_an_alternative_to_nothing_known_is_no_suggestion(small_index: CatalogIndex) -> None:
    (found,) = retrieve(["What is similar to the Zenuvia Lamp?"], small_index)
    assert not found.named
    assert all(record["match"] not in ("alternative", "complement") for record in found.records)


def test_many_questions_are_answered_in_order(small_index: CatalogIndex) -> None:
    questions = [f"Fabric of {TUNIC}?", "Marla Maxi Dress occasion", f"Like {TUNIC}, but similar"]
    together = retrieve(questions, small_index)
    alone = [retrieve([question], small_index)[0] for question in questions]
    assert [ids(found) for found in together] == [ids(found) for found in alone]
    assert retrieve([], small_index) == []


@pytest.mark.parametrize("question", ["", "   ", "?!", "\x00", "a" * 10_000, 'AND OR "(NOT'])
def test_no_text_of_a_shopper_breaks_retrieval(small_index: CatalogIndex, question: str) -> None:
    (found,) = retrieve([question], small_index)
    assert len(found.records) <= 1 + SUGGESTIONS
