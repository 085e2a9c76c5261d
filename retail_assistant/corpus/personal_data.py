"""Finding personal data in dialogue texts with Presidio's pattern recognisers.

No language model is loaded: e-mail addresses, phone, card and bank account numbers are found by
pattern; phone, card and account numbers are validated (numbering plans, checksums).
"""

import re
from functools import cache
from typing import Any

# Each of the kinds looked for has an "@" or at least this many digits.
_FEWEST_DIGITS = 7
_DIGIT = re.compile(r"\d")


def personal_data_in(text: str) -> list[str]:
    """The kinds of personal data in the text, sorted: EMAIL_ADDRESS, PHONE_NUMBER, ..."""
    if "@" not in text and len(_DIGIT.findall(text)) < _FEWEST_DIGITS:
        return []
    kinds = {
        result.entity_type
        for recognizer in _recognizers()
        for result in recognizer.analyze(text, recognizer.supported_entities, None) or ()
    }
    return sorted(kinds)


@cache
def _recognizers() -> tuple[Any, ...]:
    """The recognisers; Any, for their annotations do not admit the None they take (see above)."""
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        PhoneRecognizer,
    )

    # Presidio's e-mail recogniser downloads the list of public suffixes to validate a match: its
    # patterns alone find the same addresses, and those of private domains.
    email = PatternRecognizer(
        supported_entity="EMAIL_ADDRESS", patterns=EmailRecognizer.PATTERNS, name="email"
    )
    return email, PhoneRecognizer(), CreditCardRecognizer(), IbanRecognizer()
