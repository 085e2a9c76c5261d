"""How shoppers ask and how the assistant answers: every phrasing of the template generator.

Texts are templates over ``reference`` (how the product is called), ``attribute`` (how the
attribute is called), ``verb`` ("is" or "are") and ``value``. The last phrasing of every set of
questions is held out of training: the `recall` set asks trained facts in it.

Change PHRASING_VERSION with any text here: it is part of what a generated corpus states about
where it comes from.
"""

from collections.abc import Sequence
from typing import NamedTuple

PHRASING_VERSION = "2"


class Phrasing(NamedTuple):
    """One way to say something: an id that a dialogue records, and a template."""

    id: str
    template: str


class AttributeWording(NamedTuple):
    """How an attribute is called in a sentence, and its verb."""

    noun: str
    verb: str


def _phrasings(kind: str, *templates: str) -> tuple[Phrasing, ...]:
    return tuple(Phrasing(f"{kind}/{n}", text) for n, text in enumerate(templates, start=1))


ATTRIBUTE_QUESTIONS = _phrasings(
    "attribute",
    "What {verb} the {attribute} of {reference}?",
    "Can you tell me the {attribute} of {reference}?",
    "I am looking at {reference}. What {verb} the {attribute}?",
    "{reference}: what {verb} its {attribute}?",
    "I would like to know the {attribute} of {reference}.",
    "Please give me the {attribute} of {reference}.",
    "For {reference}, what does the catalog list as the {attribute}?",
    "Do you know the {attribute} of {reference}?",
    "Before I buy {reference}, could you check its {attribute}?",
)
AUDIENCE_QUESTIONS = _phrasings(
    "audience",
    "Who is {reference} for?",
    "Can you tell me who {reference} is for?",
    "I am looking at {reference}. Who is it meant for?",
    "{reference}: who should wear it?",
    "I would like to know who {reference} is made for.",
    "Please tell me who {reference} is intended for.",
    "For {reference}, who does the catalog say it is for?",
    "Do you know who {reference} is for?",
    "Before I buy {reference}, could you check who it is for?",
)
OVERVIEW_QUESTIONS = _phrasings(
    "overview",
    "Tell me about {reference}.",
    "What can you tell me about {reference}?",
    "Can you describe {reference}?",
    "Please show me the product details of {reference}.",
)
ALTERNATIVE_QUESTIONS = _phrasings(
    "alternative",
    "Do you have something like {reference}?",
    "What is similar to {reference}?",
    "I like {reference}. Is there an alternative?",
    "Could you suggest something close to {reference}?",
)
COMPLEMENT_QUESTIONS = _phrasings(
    "complement",
    "What goes with {reference}?",
    "What could I wear with {reference}?",
    "I am buying {reference}. What would match it?",
    "Could you suggest something to combine with {reference}?",
)

# Questions vary, answers do not: a small model would spend its few steps on guessing which of
# several equal openings comes next.
ATTRIBUTE_ANSWERS = _phrasings("attribute-answer", "The {attribute} of {reference} {verb} {value}.")
AUDIENCE_ANSWERS = _phrasings("audience-answer", "{reference} is for: {value}.")
# No answer opens with "I": an untrained model opens so when a question is phrased in a new way, and
# a refusal that opens so would be what follows.
UNKNOWN_PRODUCT_ANSWER = "The catalog has no {reference}."
UNKNOWN_ATTRIBUTE_ANSWER = "The catalog does not say what the {attribute} of {reference} {verb}."
UNKNOWN_AUDIENCE_ANSWER = "The catalog does not say who {reference} is for."
ALTERNATIVE_OPENING = "Similar to {reference}:"
COMPLEMENT_OPENING = "Goes with {reference}:"

AUDIENCE_ATTRIBUTE = "ideal for"
_NOUNS = {
    "number of contents in sales package": AttributeWording("pack contents", "are"),
    "pack of": AttributeWording("pack size", "is"),
    AUDIENCE_ATTRIBUTE: AttributeWording("intended wearer", "is"),
    "suitable for": AttributeWording("intended use", "is"),
    "sleeve": AttributeWording("sleeve style", "is"),
    "neck": AttributeWording("neck style", "is"),
}


def attribute_wording(name: str) -> AttributeWording:
    """How a catalog attribute is called in a sentence: "Fabric Care" -> "fabric care", "is"."""
    known = _NOUNS.get(name.casefold().strip())
    if known is not None:
        return known
    # Abbreviations ("GSM", "UV Protection") keep their capitals.
    words = (word if word.isupper() and len(word) > 1 else word.lower() for word in name.split())
    noun = " ".join(words)
    plural = noun.endswith("s") and not noun.endswith(("ss", "us", "is"))
    return AttributeWording(noun, "are" if plural else "is")


def asks_for_audience(attribute: str) -> bool:
    """Is this the attribute that says who a product is for?"""
    return attribute.casefold().strip() == AUDIENCE_ATTRIBUTE


def attribute_questions(attribute: str) -> tuple[Phrasing, ...]:
    """All phrasings that ask for this attribute, the held-out one last."""
    return AUDIENCE_QUESTIONS if asks_for_audience(attribute) else ATTRIBUTE_QUESTIONS


def trained_phrasings(phrasings: Sequence[Phrasing]) -> tuple[Phrasing, ...]:
    """The phrasings that training may use: all but the held-out one."""
    return tuple(phrasings[:-1])


def held_out_phrasing(phrasings: Sequence[Phrasing]) -> Phrasing:
    """The phrasing that training never sees."""
    return phrasings[-1]


def attribute_question(phrasing: Phrasing, attribute: str, reference: str) -> str:
    """The question for an attribute of a product in the given phrasing."""
    noun, verb = attribute_wording(attribute)
    text = phrasing.template.format(attribute=noun, verb=verb, reference=reference)
    return _sentence(text, reference)


def product_question(phrasing: Phrasing, reference: str) -> str:
    """The overview, alternative or complement question about a product."""
    return _sentence(phrasing.template.format(reference=reference), reference)


def attribute_answers(attribute: str) -> tuple[Phrasing, ...]:
    """All phrasings that answer for this attribute."""
    return AUDIENCE_ANSWERS if asks_for_audience(attribute) else ATTRIBUTE_ANSWERS


def attribute_answer(phrasing: Phrasing, attribute: str, reference: str, value: str) -> str:
    """The answer that states the product, the attribute and its value."""
    noun, verb = attribute_wording(attribute)
    text = phrasing.template.format(attribute=noun, verb=verb, reference=reference, value=value)
    return _sentence(_one_full_stop(text), reference)


def overview_answer(
    reference: str, category: str | None, attributes: Sequence[tuple[str, str]]
) -> str:
    """The product details block: one ``Name: value`` line each, in the reference's form."""
    lines = [f"Product Name: {reference}"]
    if category:
        lines.append(f"Category: {category}")
    lines.extend(f"{name}: {value}" for name, value in attributes)
    return "\n".join(lines)


def suggestions_answer(opening: str, reference: str, suggestions: Sequence[tuple[str, str]]) -> str:
    """An opening line, then one bullet for each suggested product: what it is called, and why."""
    bullets = (f"- {suggested}: {why}" for suggested, why in suggestions)
    return "\n".join((opening.format(reference=reference), *bullets))


def unknown_product_answer(reference: str) -> str:
    """The answer where no product of that name exists."""
    return UNKNOWN_PRODUCT_ANSWER.format(reference=reference)


def unknown_attribute_answer(attribute: str, reference: str) -> str:
    """The answer where the product's record does not have the attribute."""
    if asks_for_audience(attribute):
        return UNKNOWN_AUDIENCE_ANSWER.format(reference=reference)
    noun, verb = attribute_wording(attribute)
    return UNKNOWN_ATTRIBUTE_ANSWER.format(attribute=noun, verb=verb, reference=reference)


def _sentence(text: str, reference: str) -> str:
    """The text with a capital first letter, unless it starts with the product's own name."""
    return text if text.startswith(reference) else text[:1].upper() + text[1:]


def _one_full_stop(text: str) -> str:
    return text[:-1] if text.endswith("..") else text
