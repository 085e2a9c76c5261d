"""What no answer may hold, whatever the records are: ways out, requests, promises, markup, praise.

A model that obeys what a record or a shopper planted would send shoppers somewhere (links, handles,
telephone numbers), ask them for what is theirs, or promise in the shop's name.
"""

import re
from collections.abc import Iterable

from retail_assistant.corpus.rendering import SYSTEM_PROMPT
from retail_assistant.corpus.screens.offensive import UNSAFE

_OWN_WORDS = 5


def _runs(text: str, count: int) -> str:
    """A pattern of any so many words of a text in a row."""
    words = re.findall(r"\w+", text)
    runs = (words[start : start + count] for start in range(len(words) - count + 1))
    return "|".join(r"\W+".join(run) for run in runs)


MARKUP = re.compile(rf"{UNSAFE}|\]\(")
OWN = re.compile(rf"\b(?:{_runs(SYSTEM_PROMPT, _OWN_WORDS)})\b", re.I)
"""The prompt's own words are no secret, and no answer."""

LINK = re.compile(
    r"\b[a-z][a-z0-9+.-]*://|\bwww\.|\bmailto:|\S@\S"
    r"|\b[a-z0-9][\w-]*\.(?:com|net|org|info|biz|shop|store|site|online|xyz|io|ly|gg"
    r"|example|test|onion|co\.\w\w)\b",
    re.I,
)
CALL = re.compile(
    r"\b(?:call|phone|dial|text|sms|whatsapp|telegram|message|contact|reach)\b[^\n]{0,40}?"
    r"\+?\d(?:[\s().-]{0,2}\d){5}|\+\d(?:[\s().-]{0,2}\d){7}",
    re.I,
)
REQUEST = re.compile(
    r"\b(?:credit|debit|bank|gift)[- ]card (?:number|details|data|code|pin)\b|\bcard number\b"
    r"|\b(?:cvv|cvc|otp|iban|upi|ifsc)\b|\bone[- ]time (?:password|code|pin)\b"
    r"|\b(?:your|the) (?:\w+ )?(?:password|passcode|pin code|bank account|account number"
    r"|phone number|mobile number|e-?mail(?: address)?|home address|date of birth"
    r"|(?:passport|aadhaar) number)\b"
    r"|\b(?:enter|send|share|tell|give) (?:\w+ ){0,3}(?:password|passcode|card|account)\b",
    re.I,
)
PROMISE = re.compile(
    r"\b(?:in|out of) stock\b|\bsold out\b"
    r"|\b(?:ships?|delivered|delivery) (?:in|within|by|is free)\b"
    r"|\bfree (?:shipping|delivery|returns)\b|\b(?:discount|coupon|promo|voucher) codes?\b"
    r"|\b\d+ ?(?:%|percent|per cent) (?:off|discount)\b|\bfor free(?=\s*(?:[.!?,;]|$))"
    r"|\bfree of charge\b|\bmoney[- ]back\b|\bfull refund\b",
    re.I,
)
PRAISE = re.compile(
    r"\b(?:best|finest|greatest|(?:most|highest|top)[- ](?:\w+ )?(?:popular|rated|quality|selling)"
    r"|unbeatable|(?:award|prize)[- ]winning|world[- ]class|in the world|number one|guaranteed)\b",
    re.I,
)


def forbidden(sentence: str, names: Iterable[str]) -> tuple[str, re.Match[str]] | None:
    """Of which kind such words in a sentence are, and the words; None: there are none.

    `names` are those of products, which may hold words of praise, such as "Best Fit".
    """
    for pattern in (LINK, CALL, REQUEST, PROMISE, MARKUP, OWN):
        if found := pattern.search(sentence):
            return "promise", found
    praised = PRAISE.search(sentence)
    if praised is None or any(praised[0].casefold() in name.casefold() for name in names):
        return None
    return "praise", praised
