"""The audit: distances, tests and what a set can show, on sets whose mix is known."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.evaluation.audit import (
    GROUPS_SCHEMA,
    NOT_STATED,
    TESTS_SCHEMA,
    ShopperMix,
    audit,
    verdict,
)
from retail_assistant.profiles import ProfileError, load_profile


def assortment(**products: int) -> pl.DataFrame:
    rows = [
        {"product_id": f"{group}-{n}", "department": "Clothing", "category": group}
        for group, count in products.items()
        for n in range(count)
    ]
    return pl.DataFrame(rows).with_columns(subcategory=pl.lit(None, pl.String))


def asked(subset: str = "unseen", questions: int = 1, **products: int) -> pl.DataFrame:
    rows = [
        {"subset": subset, "product_id": f"{group}-{n}", "intent": intent}
        for group, count in products.items()
        for n in range(count)
        for intent in ["attribute", "overview"][:questions]
    ]
    return pl.DataFrame(rows, schema=["subset", "product_id", "intent"])


def comparison(tests: pl.DataFrame, dimension: str, against: str = "assortment") -> dict[str, Any]:
    return tests.filter(dimension=dimension, against=against).row(0, named=True)


def test_a_draw_like_the_assortment_is_near_it() -> None:
    found = audit(asked(men=20, women=30, questions=2), assortment(men=400, women=600))
    assert (found.groups.schema, found.tests.schema) == (GROUPS_SCHEMA, TESTS_SCHEMA)
    row = comparison(found.tests, "category")
    assert (row["n"], row["total_variation"], row["p"]) == (50, 0, 1)
    assert row["counted"] == "products"
    assert comparison(found.tests, "department")["p"] is None
    levels = found.groups.filter(dimension="subcategory")["group"]
    assert set(levels) == {NOT_STATED}


def test_a_skewed_set_is_told_apart() -> None:
    found = audit(asked(men=45, women=5), assortment(men=400, women=600, kids=1))
    row = comparison(found.tests, "category")
    assert row["total_variation"] == pytest.approx(0.9 - 400 / 1001)
    assert row["p"] < 1e-9
    assert (row["groups"], row["groups_not_asked"]) == (3, 1)
    shares = found.groups.filter(dimension="category", group="men").row(0, named=True)
    assert shares["share"] == 0.9
    assert shares["difference"] == pytest.approx(0.9 - 400 / 1001)


def test_small_cells_are_put_together() -> None:
    many = {f"g{n}": 10 for n in range(40)}
    found = audit(asked(**{f"g{n}": 1 for n in range(20)}), assortment(**many))
    row = comparison(found.tests, "category")
    assert (row["p"], row["degrees_of_freedom"]) == (None, 0)
    assert row["total_variation"] == pytest.approx(0.5)


def test_what_shoppers_ask_is_compared_by_question() -> None:
    mix = ShopperMix(intent={"attribute": 3, "overview": 1}, category={"men": 1, "women": 1})
    found = audit(asked(men=30, women=30, questions=2), assortment(men=30, women=30), shoppers=mix)
    intent = comparison(found.tests, "intent", "shoppers")
    assert (intent["n"], intent["total_variation"]) == (120, 0.25)
    assert intent["p"] < 1e-6
    assert comparison(found.tests, "category", "shoppers")["p"] == 1
    never = ShopperMix(intent={"attribute": 1})
    found = audit(asked(men=9, questions=2), assortment(men=9), shoppers=never)
    assert comparison(found.tests, "intent", "shoppers")["p"] == 0


def test_every_set_gets_a_row_for_one_job_and_for_all() -> None:
    # Two questions a product, of which one is an overview and not tested.
    rows = pl.concat([asked(men=30, questions=2), asked("recall", men=10), asked("train", men=4)])
    found = audit(rows, assortment(men=40), jobs=5)
    sets = found.power.select("subset", "comparisons", "questions").unique().sort(pl.all())
    assert sets.rows() == [
        ("recall", 1, 10),
        ("recall", 5, 10),
        ("unseen", 1, 30),
        ("unseen", 5, 30),
    ]
    assert "30 questions about 30 products of the set unseen show a difference" in verdict(found)
    assert "too few" in verdict(audit(asked(men=3), assortment(men=4)))
    assert "no questions" in verdict(found, "unanswerable")


def test_a_shopper_mix_is_read_from_a_file_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("category: {Men: 2, Women: 6}\n")
    mix = load_profile(path, ShopperMix)
    assert mix.shares("category") == {"Men": 0.25, "Women": 0.75}
    assert mix.shares("intent") == {}
    for wrong in ("category: {Men: -1}", "category: {Men: 0}", "colour: {red: 1}", "intent: 4"):
        path.write_text(wrong)
        with pytest.raises(ProfileError, match=r"mix\.yaml"):
            load_profile(path, ShopperMix)
