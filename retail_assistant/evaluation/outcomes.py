"""What became of a question: the verdict of a person who reads the answer beside the record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from retail_assistant.catalog.garments import APART, WORN_WITH, shared_audiences
from retail_assistant.corpus.reading.answers import (
    AnswerReading,
    CatalogFacts,
    Question,
    StatedProduct,
    StatedValue,
)
from retail_assistant.corpus.reading.catalog_facts import ProductFacts, value_atoms
from retail_assistant.evaluation.overviews import OverviewCounts, read_overview

Outcome = Literal[
    "true_positive",
    "wrong_value",
    "wrong_product",
    "invented_product",
    "refused",
    "no_details",
    "complete",
    "incomplete",
    "contradicted",
    "valid_suggestion",
    "invalid_suggestion",
    "no_suggestion",
    "not_judged",
    "abstained_right",
    "answered_unanswerable",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
RIGHT: frozenset[Outcome] = frozenset(
    {"true_positive", "complete", "valid_suggestion", "abstained_right"}
)
FALSE_POSITIVES: frozenset[Outcome] = frozenset(
    {"wrong_value", "wrong_product", "invented_product"}
)


@dataclass(frozen=True)
class Judgement:
    """The outcome of one answer, and the counts that metrics are sums of."""

    outcome: Outcome
    abstained: bool
    hallucinated: bool
    suggestions: int = 0
    valid_suggestions: int = 0
    overview: OverviewCounts = field(default_factory=OverviewCounts)


def judge(
    answer: str,
    reading: AnswerReading,
    question: Question,
    facts: CatalogFacts,
    expected_attributes: Sequence[str] = (),
) -> Judgement:
    """Judge an answer by its reading.

    An answer that names no product is about the asked one. `expected_attributes` are those that
    the gold answer of an overview states.
    """
    if question.intent == "attribute":
        outcome = _attribute_outcome(reading, question, facts)
        return Judgement(outcome, reading.abstained, _hallucinates(reading, question))
    if question.intent == "unanswerable":
        outcome = _unanswerable_outcome(reading)
        return Judgement(outcome, reading.abstained, _hallucinates(reading, question))
    if question.intent == "overview":
        return _judge_overview(answer, reading, question, facts, expected_attributes)
    return _judge_suggestions(reading, question, facts)


def _unanswerable_outcome(reading: AnswerReading) -> Outcome:
    """An empty answer declines nothing and claims nothing."""
    if reading.empty:
        return "no_details"
    return "abstained_right" if reading.abstained else "answered_unanswerable"


def _hallucinates(reading: AnswerReading, question: Question) -> bool:
    """Whether a product that does not exist is spoken of as if it did.

    To repeat the invented name of the question is no hallucination where the answer abstains.
    """
    if reading.abstained:
        return False
    spoken_of = question.product_id is None and reading.names_asked
    return bool(reading.unknown_products) or spoken_of


def _product_outcome(reading: AnswerReading) -> Outcome | None:
    """The outcome of an answer that speaks of another product; None where it does not."""
    if reading.empty:
        return "no_details"
    if reading.abstained:
        return "refused"
    if reading.names_asked:
        return None
    if reading.unknown_products:
        return "invented_product"
    return "wrong_product" if reading.products else None


def _attribute_outcome(reading: AnswerReading, question: Question, facts: CatalogFacts) -> Outcome:
    outcome = _product_outcome(reading)
    if outcome is not None:
        return outcome
    attribute = question.asked_attribute or ""
    gold = value_atoms(attribute, question.gold_value or "")
    stated = frozenset[str]().union(*(value.atoms for value in reading.values))
    record = facts.products.get(question.product_id or "")
    contradicted = any(_contradicts(value, gold, attribute, record) for value in reading.values)
    if gold and gold <= stated and not contradicted:
        return "true_positive"
    return "wrong_value" if contradicted or stated & gold or reading.claims else "no_details"


def _contradicts(
    value: StatedValue, gold: frozenset[str], attribute: str, record: ProductFacts | None
) -> bool:
    """A stated value is no contradiction where it stands in the asked product's own record."""
    if value.atoms & gold:
        return False
    return record is None or not record.states(attribute, value.phrase, value.atoms)


def _judge_overview(
    answer: str,
    reading: AnswerReading,
    question: Question,
    facts: CatalogFacts,
    expected: Sequence[str],
) -> Judgement:
    counts = read_overview(answer, question, expected, facts)
    refused = reading.abstained and not counts.stated
    outcome = _product_outcome(reading) if refused or not reading.abstained else None
    if outcome in {"wrong_product", "invented_product"}:
        # Details of another product are wrong details, even where they agree by chance.
        stated = OverviewCounts(contradicted=counts.stated, expected=counts.expected)
        return Judgement(outcome, refused, _hallucinates(reading, question), overview=stated)
    if outcome is None:
        outcome = _overview_outcome(counts)
    return Judgement(outcome, refused, _hallucinates(reading, question), overview=counts)


def _overview_outcome(counts: OverviewCounts) -> Outcome:
    if not counts.stated:
        return "no_details"
    if counts.contradicted or counts.unsupported:
        return "contradicted"
    return "incomplete" if counts.omitted else "complete"


def _judge_suggestions(
    reading: AnswerReading, question: Question, facts: CatalogFacts
) -> Judgement:
    suggested = _suggested(reading, question)
    known = [product for product in suggested if product is not None]
    valid = sum(_is_valid(product, question, facts) for product in known)
    refused = reading.abstained and not suggested
    hallucinated = bool(reading.unknown_products) and not refused
    if not facts.categorised and not refused:
        return Judgement("not_judged", refused, hallucinated)
    outcome: Outcome
    if _suggests_for_another(reading):
        # What goes with another product may fit the asked one by chance, as a constant answer's do.
        outcome, valid = "wrong_product", 0
    elif refused:
        outcome = "refused"
    elif not suggested:
        outcome = "no_suggestion"
    else:
        outcome = "valid_suggestion" if valid == len(suggested) else "invalid_suggestion"
    return Judgement(outcome, refused, hallucinated, len(suggested), valid)


def _suggests_for_another(reading: AnswerReading) -> bool:
    """Whether a list of suggestions stands under the name of another product than the asked one."""
    listed = any(product.listed for product in reading.products)
    headed = any(not product.listed for product in reading.products)
    return listed and headed and not reading.names_asked


def _suggested(reading: AnswerReading, question: Question) -> list[StatedProduct | None]:
    """Suggested products, each once; None for one that does not exist.

    Where the answer has a list, its items are the suggestions. Else every named product is one,
    but the asked product, which the answer may refer to.
    """
    listed = [product for product in reading.products if product.listed]
    others = [
        product for product in reading.products if question.product_id not in product.product_ids
    ]
    known = {product.product_ids: product for product in listed or others}
    return [*known.values(), *[None] * len(reading.unknown_products)]


def _is_valid(product: StatedProduct, question: Question, facts: CatalogFacts) -> bool:
    """Whether some product that the name can mean is a fair suggestion."""
    asked = facts.products.get(question.product_id or "")
    if asked is None or (question.product_id in product.product_ids and not product.coded):
        return False
    fits = is_alternative if question.intent == "alternative" else is_complement
    candidates = sorted(product.product_ids - {asked.product_id})
    return any(fits(asked, facts.products[candidate]) for candidate in candidates)


def is_alternative(asked: ProductFacts, other: ProductFacts) -> bool:
    """Same category, and same subcategory where both have one."""
    both = asked.subcategory is not None and other.subcategory is not None
    same_category = (asked.department, asked.category) == (other.department, other.category)
    return same_category and (not both or asked.subcategory == other.subcategory)


def is_complement(asked: ProductFacts, other: ProductFacts) -> bool:
    """Another subcategory that is worn with the asked one's kind, for the same audience.

    The category level of a catalog names the audience ("Men's Clothing"); what the records say of
    it has to agree. Where no noun tells a kind, only what is worn apart is no complement.
    """
    if asked.category is None or asked.subcategory is None or other.subcategory is None:
        return False
    same_category = (asked.department, asked.category) == (other.department, other.category)
    if not same_category or asked.subcategory == other.subcategory:
        return False
    if asked.kind in APART or other.kind in APART:
        return False
    compatible = not other.kind or other.kind in WORN_WITH.get(asked.kind, (other.kind,))
    return compatible and other.audience in shared_audiences(asked.audience)
