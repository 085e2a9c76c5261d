"""What the template generator says is true, fair to ask, and on the right side of the split."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from retail_assistant.catalog import garments
from retail_assistant.corpus.dialogues import (
    EVALUATION_SUBSETS,
    DialogueSchema,
)
from retail_assistant.corpus.facts import Fact, askable_facts, is_telling, missing_attributes
from retail_assistant.corpus.generators.template import TemplateGenerator
from retail_assistant.corpus.inventions import invented_names
from retail_assistant.corpus.lookup import CatalogLookup
from retail_assistant.corpus.phrasing import (
    ATTRIBUTE_QUESTIONS,
    AUDIENCE_QUESTIONS,
    attribute_answer,
    attribute_answers,
    attribute_question,
    attribute_wording,
)
from retail_assistant.corpus.planning import INVENTED_SHARE, DialoguePolicy, plan_dialogues
from retail_assistant.corpus.screening import screen
from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant.corpus.wording import value_stands_in
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

HELD_OUT = (ATTRIBUTE_QUESTIONS[-1].id, AUDIENCE_QUESTIONS[-1].id)


@pytest.fixture(scope="module")
def quickstart(embedded_assortment, embedded_splits) -> pl.DataFrame:
    """The dialogues of the sample that the quickstart trains on."""
    sample = sample_products(embedded_assortment, embedded_splits, train=50, evaluation=30, seed=0)
    return template_dialogues(sample, embedded_splits, embedded_assortment, seed=0)


def _sides(dialogues: pl.DataFrame, splits: pl.DataFrame, subset: str) -> set[str]:
    asked = dialogues.filter(pl.col("subset") == subset)
    return set(asked.join(splits, on="product_id")["split"])


def test_the_template_generator_keeps_the_contract(quickstart):
    DialogueSchema.validate(quickstart)
    assert set(quickstart["generator"]) == {TemplateGenerator.name}
    assert quickstart["dialogue_id"].is_unique().all()


def test_equal_input_gives_equal_dialogues(embedded_assortment, embedded_splits, quickstart):
    shuffled = embedded_assortment.sample(fraction=1, shuffle=True, seed=4)
    sample = sample_products(shuffled, embedded_splits, train=50, evaluation=30, seed=0)
    again = template_dialogues(sample, embedded_splits.reverse(), shuffled, seed=0)
    assert_frame_equal(again, quickstart)
    other = template_dialogues(sample, embedded_splits, embedded_assortment, seed=1)
    assert not other.equals(quickstart)


def test_the_quickstart_fits_its_budget(quickstart):
    counts = dict(quickstart.group_by("subset").len().iter_rows())
    assert 110 <= counts["train"] <= 165
    assert counts["recall"] >= 40
    assert quickstart.filter(subset="unseen", intent="attribute").height >= 50
    assert counts["unanswerable"] == 15
    train = quickstart.filter(subset="train")
    assert {"attribute", "overview", "alternative", "complement", "unanswerable"} == set(
        train["intent"]
    )


def test_every_subset_asks_about_its_own_side(embedded_dialogues, embedded_splits):
    assert _sides(embedded_dialogues, embedded_splits, "train") == {"train"}
    assert _sides(embedded_dialogues, embedded_splits, "recall") == {"train"}
    assert _sides(embedded_dialogues, embedded_splits, "validation") == {"validation"}
    assert _sides(embedded_dialogues, embedded_splits, "unseen") == {"test"}
    assert _sides(embedded_dialogues, embedded_splits, "unanswerable") == {"test"}


def test_training_mentions_no_product_of_another_side(embedded_dialogues, embedded_splits):
    ids = pl.col("evidence").struct.field("product_ids")
    train = embedded_dialogues.filter(subset="train").select(product_id=ids).explode("product_id")
    sides = train.drop_nulls().join(embedded_splits, on="product_id")["split"]
    assert set(sides) == {"train"}


def test_recall_asks_trained_facts_in_a_phrasing_that_training_never_uses(embedded_dialogues):
    recall = embedded_dialogues.filter(subset="recall")
    assert set(recall["phrasing"]) <= set(HELD_OUT)
    learned = embedded_dialogues.filter(pl.col("subset").is_in(["train", "validation"]))
    assert not set(learned["phrasing"]) & set(HELD_OUT)
    both = recall.join(learned, left_on="paraphrase_of", right_on="dialogue_id")
    assert both.height == recall.height
    for column in ("product_id", "asked_attribute", "gold_value"):
        assert both[column].equals(both[f"{column}_right"], null_equal=True)
    unseen = embedded_dialogues.filter(subset="unseen")
    assert set(HELD_OUT) & set(unseen["phrasing"])


def test_paraphrases_ask_the_same_fact_in_other_words(embedded_dialogues):
    facts = embedded_dialogues.filter(subset="train", intent="attribute").group_by(
        "product_id", "asked_attribute"
    )
    told = facts.agg(pl.len(), pl.col("phrasing").n_unique(), pl.col("paraphrase_of").null_count())
    assert set(told["len"]) == {2}
    assert set(told["phrasing"]) == {2}
    assert set(told["paraphrase_of"]) == {1}


def test_no_gold_value_stands_in_its_question(embedded_dialogues):
    asked = embedded_dialogues.filter(intent="attribute")
    columns = asked.select("gold_value", "question", "asked_attribute", "product_name", "answer")
    for gold, question, attribute, name, answer in columns.iter_rows():
        assert not value_stands_in(gold, question, attribute)
        assert not value_stands_in(gold, name, attribute)
        assert gold in answer


def test_evaluation_asks_no_value_that_a_constant_answer_would_win(embedded_dialogues):
    asked = embedded_dialogues.filter(
        pl.col("subset").is_in(["recall", "unseen"]), intent="attribute"
    )
    assert set(asked["subset"]) < set(EVALUATION_SUBSETS)
    shares = asked["gold_value"].value_counts(normalize=True)
    assert shares["proportion"].max() < 0.25
    assert asked["asked_attribute"].n_unique() >= 8


def test_references_are_unique_and_name_the_item_where_names_are_shared(
    embedded_dialogues, embedded_assortment
):
    named = embedded_dialogues.drop_nulls("product_id").select("product_id", "reference").unique()
    assert named["reference"].is_unique().all()
    shared = embedded_assortment.filter(pl.col("name").is_duplicated())["product_id"]
    with_code = named.filter(pl.col("product_id").is_in(shared.to_list()))
    assert with_code.height > 0
    assert with_code["reference"].str.contains(r"\(item [0-9a-f]{8}\)$").all()


def test_unanswerables_are_of_two_kinds_and_their_inventions_are_apart(
    embedded_dialogues, embedded_assortment
):
    declined = embedded_dialogues.filter(intent="unanswerable")
    invented = declined.filter(pl.col("product_id").is_null())
    assert set(invented["product_name"]).isdisjoint(embedded_assortment["name"])
    brands = invented.select("subset", brand=pl.col("product_name").str.split(" ").list.first())
    assert brands["brand"].is_unique().all()
    asked = declined.filter(subset="unanswerable")
    assert abs(asked["product_id"].null_count() * 2 - asked.height) <= 1
    assert declined["gold_value"].null_count() == declined.height


def test_a_small_training_set_declines_mostly_what_does_not_exist(
    embedded_assortment, embedded_splits
):
    sample = sample_products(embedded_assortment, embedded_splits, train=50, evaluation=30, seed=0)
    dialogues = template_dialogues(sample, embedded_splits, embedded_assortment, seed=0)
    learned = dialogues.filter(intent="unanswerable", subset="train")
    assert abs(learned["product_id"].null_count() - INVENTED_SHARE * learned.height) <= 1


def test_suggestions_are_real_other_products_of_the_right_kind(
    embedded_dialogues, embedded_assortment
):
    garment = (garments.kind(), garments.audience())
    kinds = embedded_assortment.select("product_id", "category", "subcategory", *garment)
    suggested = (
        embedded_dialogues.filter(pl.col("intent").is_in(["alternative", "complement"]))
        .select("intent", "product_id", other=pl.col("evidence").struct.field("product_ids"))
        .explode("other")
        .filter(pl.col("other") != pl.col("product_id"))
        .join(kinds, on="product_id")
        .join(kinds, left_on="other", right_on="product_id")
    )
    assert suggested.height > 50
    assert suggested["category"].equals(suggested["category_right"])
    same = pl.col("subcategory") == pl.col("subcategory_right")
    assert suggested.filter(intent="alternative").select(same.all()).item()
    complements = suggested.filter(intent="complement")
    assert not complements.select(same.any()).item()
    of_known_kind = complements.filter(pl.col("kind") != "", pl.col("kind_right") != "")
    assert of_known_kind.height > 20
    for row in of_known_kind.iter_rows(named=True):
        assert row["kind_right"] in garments.WORN_WITH[row["kind"]]
        assert row["audience_right"] in garments.shared_audiences(row["audience"])


def test_a_fact_is_asked_only_if_it_is_fair(product, products_frame):
    row = product(
        1,
        "Zed Printed Women Top",
        [
            ("Fabric", "Rayon"),
            ("Pattern", "Printed"),
            ("Ideal For", "Women's"),
            ("Neck", "Boat Neck"),
            ("Neck", "V Neck"),
            ("Style Code", "ZD-4711"),
            ("Size", "S, M, L"),
            ("Hooded", "Yes"),
            ("Care", "x" * 70),
            ("Story", "<b>Woven</b> by hand"),
            (None, "Hand wash"),
        ],
    )
    lookup = CatalogLookup(products_frame([row]))
    reference = lookup.reference(row["product_id"])
    assert reference == row["name"]
    assert askable_facts(row, reference) == [Fact("Fabric", "Rayon")]


def test_a_value_that_most_products_share_is_not_telling(product, products_frame):
    rows = [
        product(n, f"Zed {n}", [("Fabric", "Cotton" if n % 3 else "Silk")]) for n in range(1, 40)
    ]
    lookup = CatalogLookup(products_frame(rows))
    assert not is_telling(Fact("Fabric", "Cotton"), lookup)
    assert is_telling(Fact("Fabric", "Silk"), lookup)


def test_an_attribute_that_the_record_hints_at_is_not_missing(product, products_frame):
    full = [("Sleeve", "Sleeveless"), ("Fabric", "Rayon"), ("Neck", "Boat Neck")]
    rows = [product(n, f"Quill {n}", full) for n in range(1, 6)]
    hinting = product(10, "Zed Sleeveless Top", [("Collar", "Polo"), (None, "Rayon")])
    silent = product(11, "Zed Top")
    lookup = CatalogLookup(products_frame([*rows, hinting, silent]))
    assert missing_attributes(hinting, lookup) == []
    assert missing_attributes(silent, lookup) == ["Fabric", "Neck", "Sleeve"]


def test_products_that_cannot_be_told_apart_are_not_asked_about(product, products_frame):
    rows = [
        {**product(1, "Zed Top", [("Fabric", "Rayon")]), "product_id": f"catalog-{n}"}
        for n in (1, 2)
    ]
    products = products_frame(rows)
    splits = split_products(products, seed=0)
    dialogues = template_dialogues(products, splits, products, seed=0)
    assert dialogues.height == 0
    DialogueSchema.validate(dialogues)


def test_a_product_outside_the_splits_or_the_catalog_is_refused(small_catalog):
    splits = split_products(small_catalog, seed=0)
    with pytest.raises(ValueError, match="is in no split"):
        plan_dialogues(small_catalog, splits.head(1), small_catalog, DialoguePolicy(), seed=0)
    with pytest.raises(ValueError, match="is not in the catalog"):
        plan_dialogues(small_catalog, splits, small_catalog.head(1), DialoguePolicy(), seed=0)


def test_invented_names_are_in_no_catalog_and_do_not_repeat(small_catalog, product, products_frame):
    names = list(invented_names(CatalogLookup(small_catalog), seed=0))
    assert len(names) == len(set(names)) > 300
    taken = products_frame([product(1, names[0])])
    assert names[0] not in list(invented_names(CatalogLookup(taken), seed=0))


@pytest.mark.parametrize(
    ("attribute", "noun", "question"),
    [
        ("Fabric", "fabric", "What is the fabric of Zed Top?"),
        ("Fabric Care", "fabric care", "What is the fabric care of Zed Top?"),
        ("UV Protection", "UV protection", "What is the UV protection of Zed Top?"),
        ("Pockets", "pockets", "What are the pockets of Zed Top?"),
        (
            "Number of Contents in Sales Package",
            "pack contents",
            "What are the pack contents of Zed Top?",
        ),
    ],
)
def test_attributes_are_worded_as_a_person_would(attribute, noun, question):
    assert attribute_wording(attribute).noun == noun
    assert attribute_question(ATTRIBUTE_QUESTIONS[0], attribute, "Zed Top") == question


def test_braces_in_a_name_are_no_template():
    name = "Zed {value} {0}"
    assert name in attribute_question(ATTRIBUTE_QUESTIONS[0], "Fabric", name)
    for answer in attribute_answers("Ideal For"):
        assert attribute_answer(answer, "Ideal For", name, "Women's").startswith(
            (name, "According")
        )


@pytest.mark.parametrize(
    ("value", "text", "attribute", "stands"),
    [
        ("Women's", "Zed Womens Top", "Ideal For", True),
        ("Women", "Zed Women\u2019s Top", "Ideal For", True),
        ("Men's", "Zed Women's Top", "Ideal For", False),
        ("Round Neck", "Zed Round-Necked Top", "Neck", True),
        ("Full Sleeve", "Zed Full Sleeves Shirt", "Sleeve", True),
        ("Half Sleeve", "Zed Full Sleeves Shirt", "Sleeve", False),
        ("100% Cotton", "Zed Cotton Top", "Fabric", True),
        ("Cotton Blend", "Zed Cotton Top", "Fabric", False),
        ("Pack of 3", "Zed 3/4 Sleeve Top pack contents", "Pack", False),
        ("Boys", "Zed boy's vest", "Ideal For", True),
        ("V-Neck", "Zed Vneck Top", "", True),
        ("", "Zed Top", "Fabric", False),
    ],
)
def test_a_value_is_read_off_a_text_whatever_its_spelling(value, text, attribute, stands):
    assert value_stands_in(value, text, attribute) is stands


def test_real_rows_give_clean_dialogues(real_catalog: Path):
    assortment = assortment_of(real_catalog)
    splits = split_products(assortment, seed=0)
    sample = sample_products(assortment, splits, train=50, evaluation=30, seed=0)
    dialogues = template_dialogues(sample, splits, assortment, seed=0)
    screened, rejected = screen(dialogues, assortment, splits=splits)
    assert screened.height + rejected.height == dialogues.height
    assert rejected.height <= 0.02 * dialogues.height
    assert 100 <= screened.filter(subset="train").height <= 165
    assert screened.filter(subset="unseen", intent="attribute").height >= 40
