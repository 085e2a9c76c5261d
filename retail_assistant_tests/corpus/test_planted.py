"""Of 200 bad dialogues the screens reject nearly all, of 200 true ones nearly none."""

from collections import Counter
from collections.abc import Sequence

import polars as pl
import pytest

from retail_assistant.corpus.dialogues import Dialogue, dialogues_frame
from retail_assistant.corpus.screening import screen
from retail_assistant.corpus.splits import split_products
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues
from retail_assistant_tests.corpus.planted import Planted, bad_dialogues, true_dialogues
from retail_assistant_tests.corpus.planters import World

LEAST_BAD_REJECTED = 0.95
MOST_TRUE_REJECTED = 0.05


def _rejected(
    planted: Sequence[Planted], catalog: pl.DataFrame, splits: pl.DataFrame
) -> dict[str, str]:
    """dialogue_id -> reason of the rejected ones.

    Of a repetition and what it repeats just one may stay: whichever goes, the repetition is found.
    """
    frame = dialogues_frame(one.dialogue for one in planted)
    screened, rejected = screen(frame, catalog, splits=splits)
    assert screened.height + rejected.height == len(planted)
    reasons = dict(rejected.select("dialogue_id", "reason").iter_rows())
    first = pl.col("detail").str.extract("dialogue ([0-9a-f]{16})$")
    duplicates = rejected.filter(reason="duplicate").select("dialogue_id", first=first)
    bad = {one.dialogue.dialogue_id for one in planted if one.kind == "duplicate"}
    for gone, stays in duplicates.iter_rows():
        if stays in bad and gone not in bad:
            reasons[stays] = reasons.pop(gone)
    return reasons


@pytest.mark.parametrize("source", ["embedded", "real"])
def test_bad_dialogues_are_rejected_and_true_ones_kept(
    source, request, embedded_assortment, embedded_splits, embedded_dialogues
):
    catalog, splits, dialogues = embedded_assortment, embedded_splits, embedded_dialogues
    if source == "real":
        catalog = assortment_of(request.getfixturevalue("real_catalog"))
        splits = split_products(catalog, seed=0)
        dialogues = template_dialogues(catalog, splits, catalog, seed=0, phrasings_per_fact=2)
    rows = dialogues.drop("dialogue_id").iter_rows(named=True)
    world = World.of(catalog, splits)
    given = [Dialogue.model_validate(row) for row in rows]
    true = true_dialogues(given, world)
    bad = bad_dialogues(given, true, world)
    assert len(true) == len(bad) == 200

    reasons = _rejected([*true, *bad], catalog, splits)
    found = Counter(one.kind for one in (*true, *bad) if one.dialogue.dialogue_id in reasons)
    planted = Counter(one.kind for one in (*true, *bad))
    print(f"\n{source}: rejected of planted")
    for kind, count in planted.items():
        print(f"  {kind or 'true':20} {found[kind]:4} of {count}")

    assert found[""] <= MOST_TRUE_REJECTED * len(true)
    assert found.total() - found[""] >= LEAST_BAD_REJECTED * len(bad)
    least_of_a_kind = min(found[kind] / planted[kind] for kind in planted if kind)
    assert least_of_a_kind >= 0.9
