"""Secrets taken out of texts that others will read: logs, alerts.

By what stands before them (`password=…`, `Authorization: …`, the user's part of a URL), by their
well-known shapes, and by the values that this process's own environment has under such names.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

HIDDEN = "***"
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "WEBHOOK", "CREDENTIALS", "HEADERS")
"""In the name of an environment variable: its value is a secret."""

_SHORTEST_VALUE = 8
"""Shorter values of the environment are left: they would be found in ordinary words."""

_NAME = (
    # No dots before: in a long row of words each would begin a search through all the others.
    r"[\w-]*(?:api[_-]?key|access[_-]?key|private[_-]?key|secret(?:[_-]?key)?|passw(?:or)?d|pwd"
    r"|passphrase|token|credentials?|authorization|cookie)"
)
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
    # The user's part of a URL, with or without a password.
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), f"{HIDDEN}@"),
    (re.compile(r"(https://hooks\.slack\.com/)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # A header's value may have a scheme before it; the rest of the line belongs to it.
    (
        re.compile(
            r"((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic|digest|token)\s+)?"
            r"[^\s,'\"}]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b((?:set-)?cookie\s*:\s*)[^\r\n]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # "name": "value" of JSON and of Python's dictionaries.
    (
        re.compile(rf"(['\"](?:[\w-]+\.)*{_NAME}['\"]\s*:\s*)(?:{_QUOTED})", re.IGNORECASE),
        rf'\1"{HIDDEN}"',
    ),
    # name=value, as in commands, query strings and environments; --name value of commands.
    (
        re.compile(rf"(?<![\w-])({_NAME}\s*=\s*)(?:{_QUOTED}|[^\s&;,'\")\]}}]+)", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(rf"((?<!\S)--{_NAME}\s+)(?:{_QUOTED}|[^\s-]\S*)", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    # name: value, where the name can be no ordinary word.
    (
        re.compile(
            r"\b((?:x-)?api[_-]key\s*:\s*|passw(?:or)?d\s*:\s*)(?![/\s'\"])[^\s,'\"}]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # Keys of ours, OpenAI, Hugging Face, GitHub, Slack, Google, Amazon; JSON web tokens.
    (
        re.compile(
            r"\b(?:ra-[\w-]{30,}|sk-[\w-]{16,}|hf_\w{16,}|gh[oprsu]_\w{20,}|xox[abeprs]-[\w-]{10,}"
            r"|AIza[\w-]{30,}|ya29\.[\w.-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}"
            r"|eyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*)"
        ),
        HIDDEN,
    ),
)


def redacted(text: str) -> str:
    """The text with every secret that was recognised replaced by `***`."""
    for value in _own_secrets():
        text = text.replace(value, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def without_password(text: str) -> str:
    """The text with `***` for the password of an address, which may hold any character but blanks.

    For short texts that are an address or quote one; who is let in there can be read.
    """
    return re.sub(r"(://[^:/@\s]*):[^\s]*@", rf"\1:{HIDDEN}@", text)


def redacted_value(value: Any) -> Any:
    """As `redacted`, for all texts in a JSON-able value."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {
            key: HIDDEN
            if is_secret_name(str(key)) and isinstance(one, str)
            else redacted_value(one)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_value(one) for one in value]
    return value


def is_secret_name(name: str) -> bool:
    """Whether what has this name (of a field, a variable, a header) is a secret."""
    return re.fullmatch(_NAME, name, re.IGNORECASE) is not None


@cache
def _own_secrets() -> tuple[str, ...]:
    """The values of this process's environment that are secrets, the longest first."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST_VALUE
        # A path says where a secret lies, and is none; so are `TOKENIZERS_PARALLELISM=false` etc.
        and not value.startswith(("/", "."))
        # At the end of a part of the name: PGPASSWORD, but no TOKENIZERS.
        and any(part.endswith(SECRET_WORDS) for part in re.split(r"[^A-Z]+", name.upper()))
    }
    return tuple(sorted(found, key=len, reverse=True))


def forget_own_secrets() -> None:
    """Look at the environment again (it was changed)."""
    _own_secrets.cache_clear()
