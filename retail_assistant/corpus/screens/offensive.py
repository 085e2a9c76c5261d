"""Unsafe and biased wording.

Unsafe is what may act on a reader's machine or on a model: markup, links, control tokens, hidden
characters, instructions to ignore instructions. Offensive is what hurts people: profanity, insults,
slurs, and generalisations about gender, age, body, religion or origin, by the reviewed patterns in
`data/offensive.yaml`.
"""

import re
from functools import cache
from importlib.resources import files

import yaml

UNSAFE = (
    r"(?i)</?[a-z!][^>]*>|<\||\|>|\[/?inst\]|```|javascript:|data:text/|\bon(click|error|load)\s*="
    r"|\b(https?|ftp)://|\bwww\."
    r"|\b(ignore|disregard|forget|override|bypass) (\w+ ){0,3}?"
    r"(previous|above|prior|earlier|system) (\w+ )?(instructions?|prompts?|rules|messages?)"
    r"|\b(your|the) system prompt\b"
    r"|[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
"""A pattern of unsafe text, for polars and re."""

NEUTRALISED = r"\(\|[a-z_]+\|\)|\(/?inst\)"
"""What `rendering.plain_text` makes of control tokens: harmless, and nothing to learn."""

_DOMAIN = re.compile(
    r"\b[a-z0-9-]{2,}\.(?:com|net|org|info|biz|shop|store|online|co\.[a-z]{2})\b", re.I
)


def sites_in(text: str) -> list[str]:
    """The bare names of web sites in the text, such as "example.com".

    Names of products must be taken out before: a brand may be called so.
    """
    return [found[0] for found in _DOMAIN.finditer(text)]


def offensive_wordings(text: str) -> list[str]:
    """The offensive wordings in the text, as they are written there.

    Names of products must be taken out before: a brand is called what it is called.
    """
    line = " ".join(text.replace("\u2019", "'").split())
    return [found[0] for found in _pattern().finditer(line)]


@cache
def _pattern() -> re.Pattern[str]:
    text = (files("retail_assistant") / "data" / "offensive.yaml").read_text(encoding="utf-8")
    entries = [entry for group in yaml.safe_load(text).values() for entry in group]
    return re.compile(rf"(?<!\w)(?:{'|'.join(entries)})(?!\w)", re.IGNORECASE)
