"""Labelled shopper reviews that are made up: the texts of the task `sentiment` that ship with it.

Every sentence is put together from phrases written for this project; no shopper wrote any of it.
Some labels are wrong on purpose, so that the report on label quality has something to find.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import polars as pl

from retail_assistant.corpus.draws import pick, stable_fraction

Sentiment = Literal["positive", "negative"]

ROWS = 480
SEED = 7
WRONG_LABELS = 0.08
"""Share of rows whose label says the opposite of the text."""
REVIEWER_ERRORS = {"reviewer_1": 0.03, "reviewer_2": 0.06}
"""Share of rows that a reviewer judges wrongly."""
NOT_REVIEWED = 0.1
"""Share of rows that the second reviewer left out."""

_OPPOSITE: dict[Sentiment, Sentiment] = {"positive": "negative", "negative": "positive"}

_ITEMS = (
    "kurta", "linen shirt", "denim jacket", "summer dress", "wool scarf", "pair of trousers",
    "rain coat", "cotton saree", "hoodie", "blazer", "silk blouse", "pair of sneakers",
    "maxi skirt", "polo shirt", "cardigan", "leather belt",
)  # fmt: skip
_OPENINGS = (
    "Bought this {item} for {person}.",
    "My {ordinal} {item} from this shop.",
    "I have worn the {item} {often} now.",
    "Ordered the {item} in {colour}.",
    "The {item} came {when}.",
    "Picked this {item} for {occasion}.",
    "",
)
_DETAILS = {
    "person": ("my sister", "my father", "my son", "a friend", "myself", "my wife"),
    "ordinal": ("first", "second", "third"),
    "often": ("twice", "for a month", "every week", "all winter", "three times"),
    "colour": ("navy", "maroon", "black", "off-white", "mustard", "bottle green", "grey"),
    "when": ("on Tuesday", "this morning", "last week", "before the weekend", "today"),
    "occasion": ("a wedding", "the office", "a holiday", "Diwali", "a birthday", "the monsoon"),
}
_PRAISE = (
    "The fabric feels soft and stays cool.",
    "Stitching is neat everywhere, not one loose thread.",
    "It fits exactly as the size chart says.",
    "The colour looks even better than in the photos.",
    "After five washes it still looks new.",
    "Pockets are deep enough for a phone.",
    "Everybody asked me where I got it.",
    "Worth every rupee.",
    "I was afraid it would be see-through, but it is not at all.",
    "No complaints about the zip, it runs smoothly.",
    "Delivery took two days and the parcel was spotless.",
    "It did not shrink, which I had feared.",
    "The lining is warm without being heavy.",
    "Comfortable from morning to night.",
    "The cut flatters and the length is right.",
    "I would buy it again without thinking twice.",
)
_BLAME = (
    "The fabric is scratchy and makes me sweat.",
    "Seams came apart after one evening.",
    "It runs two sizes small, whatever the chart says.",
    "The colour has nothing to do with the photos.",
    "After a single wash it looked years old.",
    "Pockets are so shallow that my phone fell out.",
    "Nobody should pay this much for it.",
    "A waste of money.",
    "I hoped it would be thick, but you can see right through it.",
    "The zip got stuck on day one and never moved again.",
    "Delivery took three weeks and the parcel was torn.",
    "It shrank although I washed it cold.",
    "The lining itches and crackles.",
    "I could not wait to take it off.",
    "The cut is shapeless and the length is wrong.",
    "It is going back, and so is my trust in this brand.",
)
_JOINED = (
    "{opening} {first} {second}",
    "{opening} {first}",
    "{first} {second}",
    "{opening} {contrast} Still: {last}",
    "{opening} {contrast} In the end: {last}",
)


class Review(NamedTuple):
    """A made-up review: what its text says, and what its label says."""

    text: str
    sentiment: Sentiment
    label: Sentiment
    reviewers: dict[str, Sentiment | None]


def made_up_reviews(rows: int = ROWS, seed: int = SEED) -> list[Review]:
    """So many different reviews, half of them positive; the same for the same seed."""
    found: dict[str, Review] = {}
    for number, sentiment in enumerate(_alternating()):
        if len(found) == rows:
            break
        text = _text(sentiment, seed, number)
        found.setdefault(text, _judged(text, sentiment, seed))
    return list(found.values())


def labelled_file(rows: int = ROWS, seed: int = SEED) -> pl.DataFrame:
    """The reviews as the shipped file has them: text, label and a column a reviewer."""
    return pl.DataFrame(
        [
            {"text": one.text, "label": one.label, **one.reviewers}
            for one in made_up_reviews(rows, seed)
        ]
    )


def _alternating() -> Iterator[Sentiment]:
    while True:
        yield "positive"
        yield "negative"


def _judged(text: str, sentiment: Sentiment, seed: int) -> Review:
    """The review with its label, wrong where the draw says so, and its reviewers' labels."""

    def said(who: str, errors: float) -> Sentiment:
        is_wrong = stable_fraction("judged", seed, who, text) < errors
        return _OPPOSITE[sentiment] if is_wrong else sentiment

    reviewers: dict[str, Sentiment | None] = {
        who: said(who, errors) for who, errors in REVIEWER_ERRORS.items()
    }
    if stable_fraction("not reviewed", seed, text) < NOT_REVIEWED:
        reviewers["reviewer_2"] = None
    return Review(text, sentiment, said("label", WRONG_LABELS), reviewers)


def _text(sentiment: Sentiment, seed: int, number: int) -> str:
    own, other = (_PRAISE, _BLAME) if sentiment == "positive" else (_BLAME, _PRAISE)
    drawn = ("made up", seed, sentiment, number)
    first = pick(own, *drawn, "first")
    second = pick([one for one in own if one != first], *drawn, "second")
    details = {name: pick(options, *drawn, name) for name, options in _DETAILS.items()}
    opening = pick(_OPENINGS, *drawn, "opening")
    text = pick(_JOINED, *drawn, "joined").format(
        opening=opening.format(item=pick(_ITEMS, *drawn, "item"), **details),
        first=first,
        second=second,
        contrast=pick(other, *drawn, "contrast"),
        last=f"{second[0].lower()}{second[1:]}" if second[:2] != "I " else second,
    )
    return " ".join(text.split())
