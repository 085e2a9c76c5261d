"""Free-form answers: what the records support is kept, what they do not is found."""

from typing import Any

import pytest

from retail_assistant.corpus.dialogues import Dialogue, Evidence
from retail_assistant.corpus.screens.catalog_text import CatalogText
from retail_assistant.corpus.screens.grounding import ungrounded_because
from retail_assistant.corpus.screens.spoken import Spoken

TUNIC, DRESS, SHIRT = "Quill Women's Tunic", "Marla Maxi Dress", "Bolt Men's Shirt"
THREE, FOUR, FIVE, SIX, SEVEN = (f"{n:08x}{'0' * 24}" for n in (3, 4, 5, 6, 7))


def _why(catalog: CatalogText, documents: dict[str, str] | None = None, **changes: Any) -> str:
    """Why a dialogue about the tunic is ungrounded; "" if it is not."""
    fields: dict[str, Any] = {
        "product_id": THREE,
        "product_name": TUNIC,
        "reference": TUNIC,
        "intent": "attribute",
        "subset": "train",
        "question": f"What is the fabric of {TUNIC}?",
        "asked_attribute": "Fabric",
        "gold_value": "Rayon",
        "evidence": Evidence(attributes=("Fabric",), product_ids=(THREE,)),
        "phrasing": "free",
        "generator": "written by hand",
        "generator_version": "1",
    }
    row = Dialogue(**{**fields, **changes}).model_dump()
    return ungrounded_because(Spoken.of(row, catalog), catalog, documents) or ""


@pytest.mark.parametrize(
    "answer",
    [
        f"The {TUNIC} is made of rayon.",
        "Rayon, as far as our catalog goes. Anything else?",
        f"Good choice! {TUNIC} is cut from rayon and feels light.",
        "It is rayon, not silk.",
        f"{TUNIC} costs Rs. 499 and is made of Rayon.",
        "It is rayon. The price went down from 999.00 to 499.",
        "Two things to know: it is rayon, and it should be washed by hand only.",
        "1. It is rayon.\n2. It is from our Western Wear.",
        f"{TUNIC} (item 00000003)'s fabric is Rayon.",
        "The tunic is rayon. I cannot say more about it.",
    ],
)
def test_true_answers_are_grounded(small_text, answer):
    assert _why(small_text, answer=answer) == ""


@pytest.mark.parametrize(
    ("answer", "about"),
    [
        ("The top is made of 100% silk and has pockets.", "Rayon"),
        ("It is made of rayon and silk.", "silk"),
        ("It is made of rayon, and has a boat neck.", "boat neck"),
        ("It is rayon and just right for a party.", "party"),
        ("It isn't rayon.", "Rayon"),
        ("It is anything but rayon.", "Rayon"),
        ("The catalog does not say what the fabric is.", "Rayon"),
        ("It is 100% rayon.", "100%"),
        ("It is rayon. It costs Rs. 459.", "459"),
        ("It is rayon and 30% off.", "30%"),
        ("It is rayon. Use the code SAVE20.", "save20"),
        ("It is rayon, woven with 120 threads.", "120"),
        (f"The fabric of {DRESS} is Rayon.", "marla maxi dress"),
        (f"It is rayon, as is the {SHIRT}.", "bolt men shirt"),
        ("It is rayon (item 00000007).", "00000007"),
        (f"{SHIRT} (item 00000003) is rayon.", "bolt men shirt"),
        ("It is rayon and goes with the Zenora Pleated Skirt.", "Zenora"),
        ("It is rayon, like everything by Oro.", "oro"),
        ("- Fabric: Rayon\n- Neck: Boat Neck", "boat neck"),
    ],
)
def test_what_no_record_has_is_ungrounded(small_text, answer, about):
    assert about in _why(small_text, answer=answer)


def test_features_that_no_record_speaks_of_are_ungrounded(product, products_frame):
    rows = [
        product(3, TUNIC, [("Fabric", "Rayon")]),
        product(4, DRESS, [("Fabric", "Rayon"), ("Pockets", "2"), ("Hood", "Detachable")]),
    ]
    catalog = CatalogText(products_frame(rows))
    assert "pocket" in _why(catalog, answer="It is rayon and has pockets.")
    assert "hood" in _why(catalog, answer="It is rayon and comes with a warm hood.")
    assert _why(catalog, answer="It is rayon and has no pockets.") == ""
    assert _why(catalog, answer="It is rayon. You cannot miss it.") == ""


def test_a_question_names_its_product_and_no_other(small_text):
    answer = "It is rayon."
    assert "does not name" in _why(small_text, answer=answer, question="And the fabric?")
    both = f"Is {TUNIC} of the same fabric as {SHIRT}?"
    assert "bolt men shirt" in _why(small_text, answer=answer, question=both)
    coded = "What is item 00000003 made of?"
    assert _why(small_text, answer=answer, question=coded) == ""


def test_a_name_that_is_shown_cut_off_is_the_name(product, products_frame):
    name = f"Quill {'Very ' * 30}Long Women's Tunic"
    catalog = CatalogText(products_frame([product(3, name, [("Fabric", "Rayon")])]))
    reference = f"{name[:117]}..."
    fields = {"product_name": name, "reference": reference, "answer": f"{reference} is rayon."}
    assert _why(catalog, question=f"What is {reference} made of?", **fields) == ""


def test_values_of_suggestions_are_those_of_the_suggested_product(small_text):
    fields = {
        "product_id": FIVE,
        "product_name": "Anvi Women's Palazzo",
        "reference": "Anvi Women's Palazzo",
        "intent": "complement",
        "question": "What goes with Anvi Women's Palazzo?",
        "asked_attribute": None,
        "gold_value": None,
        "evidence": Evidence(product_ids=(FIVE, SIX)),
    }
    scarf = "Oro Women's Dupatta (item 00000006)"
    assert _why(small_text, answer=f"Take the {scarf}: it is festive.", **fields) == ""
    assert "party" in _why(small_text, answer=f"Take the {scarf}: it is for a party.", **fields)
    assert "no other product" in _why(small_text, answer="Something festive.", **fields)


@pytest.mark.parametrize(
    ("answer", "is_grounded"),
    [
        ("I am afraid the catalog does not mention its neck.", True),
        ("There is no information on the neck of this one.", True),
        ("It has a boat neck.", False),
        ("Its neck is lovely.", False),
        ("We do not know its neck, but it is made of silk.", False),
    ],
)
def test_what_is_not_known_is_declined(small_text, answer, is_grounded):
    fields = {
        "intent": "unanswerable",
        "asked_attribute": "Neck",
        "gold_value": None,
        "question": f"Which neck does {TUNIC} have?",
        "evidence": Evidence(product_ids=(THREE,)),
    }
    assert (_why(small_text, answer=answer, **fields) == "") == is_grounded


def test_answers_about_the_store_state_no_number_of_their_own(small_text):
    fields = {
        "product_id": None,
        "product_name": None,
        "reference": None,
        "intent": "knowledge",
        "asked_attribute": None,
        "gold_value": None,
        "question": "How long may I take to return it?",
    }
    policy = {"returns.md": "You may return everything within 30 days."}
    evidence = Evidence(documents=("returns.md",))
    right, wrong = "Within 30 days.", "Within 60 days."
    assert _why(small_text, policy, answer=right, evidence=evidence, **fields) == ""
    assert "60" in _why(small_text, policy, answer=wrong, evidence=evidence, **fields)
    assert _why(small_text, None, answer=wrong, evidence=evidence, **fields) == ""
    assert "document" in _why(small_text, policy, answer=right, evidence=Evidence(), **fields)
