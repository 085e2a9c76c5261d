"""What a message is where it says nothing of the catalog: read off labelled examples.

`data/utterances.yaml` holds the examples. A message gets the label whose examples lie nearest to it
by MiniLM's vectors; the model is loaded by the first message that needs it.
"""

from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal, NamedTuple, cast

import numpy as np
import yaml

from retail_assistant.catalog.embedding import embed, embed_query

UtteranceKind = Literal[
    "greeting",
    "thanks",
    "goodbye",
    "capability",
    "service",
    "browsing",
    "wanted",
    "goods",
    "not_shopping",
    "instructions",
]

_SMALL_WORDS = "small_words"
_READ_CHARACTERS = 400
_NEAREST = 3
_SURELY_FOREIGN = 0.95
_FEWEST_FOREIGN_WORDS = 3


class Utterance(NamedTuple):
    """A label, and how near its examples are: cosine similarity, -1 to 1."""

    kind: UtteranceKind
    similarity: float


@cache
def _book() -> dict[str, list[str]]:
    text = (files("retail_assistant") / "data" / "utterances.yaml").read_text(encoding="utf-8")
    book = yaml.safe_load(text)
    return {**book, _SMALL_WORDS: book[_SMALL_WORDS].split()}


@cache
def _small_words() -> frozenset[str]:
    return frozenset(_book()[_SMALL_WORDS])


def is_small_word(word: str) -> bool:
    """Whether a word (in normal form) never names something to buy."""
    return word in _small_words()


@cache
def _examples() -> tuple[list[str], np.ndarray]:
    pairs = [
        (kind, text) for kind, texts in _book().items() if kind != _SMALL_WORDS for text in texts
    ]
    return [kind for kind, _ in pairs], embed([text for _, text in pairs])


@lru_cache(maxsize=1024)
def read_utterance(text: str) -> Utterance:
    """What a message is most like, by the nearest examples (loads MiniLM on the first call)."""
    kinds, vectors = _examples()
    similarities = vectors @ embed_query(text[:_READ_CHARACTERS])
    nearest = np.argsort(-similarities, kind="stable")[:_NEAREST]
    votes: dict[str, float] = {}
    for number in nearest:
        # The nearest example outweighs two that are farther, unless they are nearly as near.
        votes[kinds[number]] = votes.get(kinds[number], 0.0) + float(similarities[number]) ** 3
    kind = max(votes, key=lambda one: votes[one])
    best = max(float(similarities[number]) for number in nearest if kinds[number] == kind)
    return Utterance(cast(UtteranceKind, kind), round(best, 4))


@cache
def _language_identifier() -> object:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=1024)
def foreign_language(text: str) -> str | None:
    """ISO 639-1 code of the language of a text that is surely not English; else None."""
    read = text[:_READ_CHARACTERS].strip()
    letters = [character for character in read if character.isalpha()]
    if not letters:
        return None
    latin = sum(character < "\u0250" for character in letters) / len(letters)
    if latin >= 0.5 and len(read.split()) < _FEWEST_FOREIGN_WORDS:
        return None
    language, sureness = _language_identifier().classify(read)  # type: ignore[attr-defined]
    if language == "en" or (latin >= 0.5 and sureness < _SURELY_FOREIGN):
        return None
    return str(language)
