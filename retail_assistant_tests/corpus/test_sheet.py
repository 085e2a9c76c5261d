"""The data steward's sheet: what it counts and shows, and that untrusted text stays text."""

from datetime import UTC, datetime
from html.parser import HTMLParser

import polars as pl
import pytest

from retail_assistant.corpus.approval import ApprovalPolicy, ApprovedCorpus, Decision
from retail_assistant.corpus.dialogues import Dialogue, Evidence, dialogues_frame
from retail_assistant.corpus.screening import screen
from retail_assistant.corpus.sheet import (
    counts_markdown,
    counts_table,
    headline,
    product_groups,
    rejected_reasons,
    sample_sheet,
    samples,
    statistics,
)
from retail_assistant_tests.corpus.conftest import MakeFrame, MakeProduct

VERSION = "0123456789abcdef" * 4
HOSTILE = "</p></bdi><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\u202egnol\x07"


class Page(HTMLParser):
    """A page's tags with their attributes, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag == "style"
        self.text += " "

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def approved(dialogues: pl.DataFrame | None, **fields: object) -> ApprovedCorpus:
    given = {"version": "b" * 64, "decision": "approved", "by": "Ann Doe", "reason": "reads well"}
    at = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    return ApprovedCorpus(Decision.model_validate(given | {"at": at} | fields), dialogues)


@pytest.fixture(scope="module")
def screened(
    embedded_dialogues: pl.DataFrame,
    embedded_assortment: pl.DataFrame,
    embedded_splits: pl.DataFrame,
) -> pl.DataFrame:
    return screen(embedded_dialogues, embedded_assortment, splits=embedded_splits)[0]


@pytest.fixture(scope="module")
def rejected(screened: pl.DataFrame) -> pl.DataFrame:
    part = screened.head(30)
    reason = pl.Series(["unsafe"] * 6 + ["leak"] * 24)
    return part.with_columns(reason=reason, detail=pl.lit("the question has <b>"))


@pytest.fixture(scope="module")
def hostile(product: MakeProduct, products_frame: MakeFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Dialogues and products in which every text is hostile."""
    catalog = products_frame([product(1, HOSTILE, [(HOSTILE, HOSTILE)], HOSTILE, HOSTILE)])
    common = {"product_name": HOSTILE, "reference": HOSTILE, "phrasing": HOSTILE}
    common |= {"generator": HOSTILE, "generator_version": HOSTILE, "subset": "train"}
    ids = (catalog["product_id"].item(), HOSTILE)
    evidence = Evidence(attributes=(HOSTILE,), product_ids=ids, documents=(HOSTILE,))
    about = {"product_id": ids[0], "question": HOSTILE, "answer": HOSTILE, "evidence": evidence}
    rows = [{"intent": intent, **about} for intent in ("attribute", "knowledge")]
    return dialogues_frame(Dialogue.model_validate(common | row) for row in rows), catalog


def test_everything_is_counted_once(screened: pl.DataFrame) -> None:
    counts = counts_table(screened)
    assert sum(sum(row.values()) for row in counts.values()) == screened.height
    assert list(counts) == ["train", "validation", "recall", "unseen", "unanswerable"]
    assert next(iter(counts["train"])) == "attribute"
    assert counts["recall"].keys() == {"attribute"}


def test_the_sample_has_every_kind_and_depends_on_the_seed_alone(
    screened: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    strata = samples(screened, embedded_assortment, 3, seed=1)
    counts = counts_table(screened)
    assert [(one["subset"], one["intent"], one["of"]) for one in strata] == [
        (subset, intent, count) for subset, row in counts.items() for intent, count in row.items()
    ]
    assert all(len(one["dialogues"]) == min(3, one["of"]) for one in strata)
    for one in strata:
        for row in one["dialogues"]:
            assert (row["subset"], row["intent"]) == (one["subset"], one["intent"])

    def drawn(frame: pl.DataFrame, seed: int) -> list[str]:
        return [
            row["dialogue_id"]
            for one in samples(frame, embedded_assortment, 3, seed)
            for row in one["dialogues"]
        ]

    assert drawn(screened.sample(fraction=1, shuffle=True, seed=5), 1) == drawn(screened, 1)
    assert drawn(screened, 2) != drawn(screened, 1)


def test_evidence_is_shown_as_the_catalog_states_it(
    small_catalog: pl.DataFrame,
) -> None:
    linen, tunic = small_catalog["product_id"][1], small_catalog["product_id"][2]
    common = {"phrasing": "1", "generator": "template", "generator_version": "1"}
    asked = Dialogue(
        product_id=linen,
        product_name="Zed Printed Women's Top",
        intent="alternative",
        subset="train",
        question="What else?",
        answer="The Quill.",
        evidence=Evidence(attributes=("Fabric", "Neck"), product_ids=(linen, tunic, "gone")),
        **common,
    )
    (stratum,) = samples(dialogues_frame([asked]), small_catalog, 3, seed=0)
    (row,) = stratum["dialogues"]
    assert row["facts"] == [("Fabric", ["Linen", "Silk"]), ("Neck", [])]
    assert row["others"] == [(tunic, "Quill Women's Tunic"), ("gone", None)]
    assert row["record"] == ["Zed", "Clothing", "Women's Clothing", "Western Wear"]
    page = Page(sample_sheet(VERSION, dialogues_frame([asked]), _none(asked), small_catalog))
    assert "Fabric: Linen / Silk" in page.words
    assert "Neck: not among the product's attributes" in page.words
    assert "suggested: not in the assortment gone" in page.words


def _none(dialogue: Dialogue) -> pl.DataFrame:
    """A rejected table without a row."""
    return dialogues_frame([dialogue]).head(0).with_columns(reason=pl.lit(""), detail=pl.lit(""))


def test_rejected_reasons_come_with_counts_and_examples(rejected: pl.DataFrame) -> None:
    reasons = rejected_reasons(rejected, 5, seed=0)
    assert [(one["reason"], one["count"], len(one["dialogues"])) for one in reasons] == [
        ("leak", 24, 5),
        ("unsafe", 6, 5),
    ]
    assert reasons[0]["share"] == pytest.approx(0.8)
    assert rejected_reasons(rejected.head(0), 5, seed=0) == []


def test_the_numbers_of_a_corpus(small_catalog: pl.DataFrame) -> None:
    ids = small_catalog["product_id"]
    common = {"phrasing": "1", "generator": "template", "generator_version": "1", "subset": "train"}
    rows = [
        {"product_id": ids[0], "intent": "attribute", "asked_attribute": "Fabric"},
        {"product_id": ids[0], "intent": "attribute", "asked_attribute": "Neck"},
        {"product_id": ids[6], "intent": "overview"},
        {"product_id": None, "intent": "unanswerable"},
    ]
    frame = dialogues_frame(
        Dialogue.model_validate({**common, **row, "question": "Q" * (10 + i), "answer": "A"})
        for i, row in enumerate(rows)
    )
    told = dict(statistics(frame))
    assert told["Products that are spoken of"] == "2"
    assert told["Dialogues for each of them"].startswith("1 to 2; ")
    assert told["Dialogues about no product"] == "1"
    assert told["Facts that are asked"] == "2"
    assert told["Characters of a question"].startswith("10 to 13; ")


def test_groups_are_the_largest_and_all_that_are_marked(
    screened: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    brand, count = embedded_assortment["brand"].value_counts(sort=True).row(-1)
    put_off = screened.filter(pl.col("intent") != "unanswerable")
    rows, more = product_groups(put_off, put_off.head(0), embedded_assortment)
    assert more > 0
    assert not any(row["far_from_whole"] for row in rows)
    department = next(row for row in rows if row["dimension"] == "department")
    assert department["products"] == embedded_assortment.height
    assert (brand, count) not in [(row["group"], row["products"]) for row in rows]
    ids = embedded_assortment.filter(brand=brand)["product_id"].implode()
    many = pl.concat([put_off.filter(pl.col("product_id").is_in(ids))] * 200)
    rejected = pl.concat([many, put_off.head(200)])
    rows, _ = product_groups(put_off, rejected, embedded_assortment)
    marked = {row["group"]: row["far_from_whole"] for row in rows if row["dimension"] == "brand"}
    assert marked[brand] == ["rejected_share"]


def test_the_sheet_tells_what_changed_since_the_last_approved_corpus(
    screened: pl.DataFrame, rejected: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    other = pl.lit("Not what it says now.")
    before = pl.concat(
        [screened.slice(1, 1).with_columns(answer=other, dialogue_id=pl.lit("x")), screened[2:]]
    )

    def page(last: ApprovedCorpus | None) -> str:
        html = sample_sheet(VERSION, screened, rejected, embedded_assortment, last_approved=last)
        return Page(html).words

    words = page(approved(before))
    assert "Compared with bbbbbbbbbbbb, approved by Ann Doe on 2026-03-04 05:06 UTC" in words
    assert f"kept {screened.height - 2:,} changed answer 1 other subset 0 added 1" in words
    assert "before Not what it says now." in words
    assert "all of it is new" in page(None)
    assert "cannot be compared with" in page(approved(None))
    assert "cannot be compared with" in page(approved(before.drop("intent")))


def test_the_sheet_says_what_to_do(
    screened: pl.DataFrame, rejected: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    html = sample_sheet(
        VERSION,
        screened,
        rejected,
        embedded_assortment,
        cost={"prompt_tokens": 12_345},
    )
    words = Page(html).words
    assert VERSION in words
    assert headline(screened, rejected) in words
    for verb in ("approve", "reject"):
        assert rf"retail-assistant corpus {verb} \ --version 0123456789ab" in words
    assert "the job decide_corpus" in words
    assert 'version: "0123456789ab"' in words
    assert "prompt tokens: 12,345" in words
    assert f"department Clothing {embedded_assortment.height}" in words
    told = counts_markdown(screened, VERSION)
    assert "corpus approve --version 0123456789ab" in told
    assert f"| {screened.filter(subset='train').height} |" in told


def test_the_same_corpus_gives_the_same_sheet(
    screened: pl.DataFrame, rejected: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    def make() -> str:
        return sample_sheet(VERSION, screened, rejected, embedded_assortment, seed=3)

    assert make() == make()


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_hostile_text_is_shown_and_does_nothing(
    hostile: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    dialogues, catalog = hostile
    rejected = dialogues.with_columns(reason=pl.lit(HOSTILE), detail=pl.lit(HOSTILE))
    before = dialogues.with_columns(answer=pl.lit("Before."), dialogue_id=pl.lit("x")).head(1)
    page = Page(
        sample_sheet(
            VERSION,
            dialogues,
            rejected,
            catalog,
            last_approved=approved(before, by=HOSTILE, reason=HOSTILE),
            cost={HOSTILE: HOSTILE},
        )
    )
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "[U+202E]gnol[U+0007]" in page.text
    assert "\u202e" not in page.text
    assert "\x07" not in page.text


def test_the_sheet_asks_nobody_for_anything(
    screened: pl.DataFrame, rejected: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    page = Page(sample_sheet(VERSION, screened, rejected, embedded_assortment))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert not any("src" in attributes for _, attributes in page.tags)
    links = {attributes["href"] for _, attributes in page.tags if "href" in attributes}
    targets = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert links - {"data:,"} <= targets


def test_very_long_text_is_cut(small_catalog: pl.DataFrame) -> None:
    long = Dialogue(
        intent="knowledge",
        subset="train",
        question="Q" * 5_000,
        answer="A",
        phrasing="1",
        generator="template",
        generator_version="1",
    )
    frame = dialogues_frame([long])
    words = Page(sample_sheet(VERSION, frame, _none(long), small_catalog)).words
    assert "Q" * 700 + "…" in words
    assert "Q" * 701 not in words


def test_an_empty_corpus_has_a_sheet_too(
    screened: pl.DataFrame, rejected: pl.DataFrame, embedded_assortment: pl.DataFrame
) -> None:
    words = Page(
        sample_sheet(VERSION, screened.head(0), rejected.head(0), embedded_assortment)
    ).words
    assert "0 dialogues about 0 products" in words
    assert "Rejected by the screens None." in words


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"samples": 101}, {"sample": 3}])
def test_a_wrong_policy_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sample"):
        ApprovalPolicy.model_validate(wrong)
