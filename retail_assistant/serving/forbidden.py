"""What no answer may hold, whatever the records are: links, promises, praise."""

import re
from collections.abc import Iterable

LINK = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+|\b[\w-]+\.(?:com|net|org|shop)\b", re.I)
PROMISE = re.compile(
    r"\b(?:in|out of) stock\b|\bsold out\b"
    r"|\b(?:ships?|delivered|delivery) (?:in|within|by|is free)\b"
    r"|\bfree (?:shipping|delivery|returns)\b|\b(?:discount|coupon|promo) code\b",
    re.I,
)
PRAISE = re.compile(
    r"\b(?:best|finest|greatest|(?:most|highest|top)[- ](?:\w+ )?(?:popular|rated|quality|selling)"
    r"|unbeatable|(?:award|prize)[- ]winning|world[- ]class|in the world|number one|guaranteed)\b",
    re.I,
)


def forbidden(sentence: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Of which kind the first such words in a sentence are, and the words; None: there are none.

    `names` are those of products, which may hold words of praise, such as "Best Fit".
    """
    if found := LINK.search(sentence) or PROMISE.search(sentence):
        return "promise", found[0]
    found = PRAISE.search(sentence)
    if found is None or any(found[0].casefold() in name.casefold() for name in names):
        return None
    return "praise", found[0]
