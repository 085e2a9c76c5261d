"""The Terraform files: parsed, and as text without comments."""

import re
from collections.abc import Iterator
from typing import Any

from retail_assistant_tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "terraform"
FILES = sorted(FOLDER.glob("*.tf"))
BLOCK = "__is_block__"
LABELS = {"resource": 2, "data": 2, "ephemeral": 2, "variable": 1, "output": 1, "provider": 1}
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*')

Block = tuple[str, list[str], dict[str, Any]]


def configuration() -> list[dict[str, Any]]:
    """Every file as a dict; blocks are lists, marked with `__is_block__`."""
    import hcl2

    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True)
    return [hcl2.loads(path.read_text(), serialization_options=options) for path in FILES]


def blocks(files: list[dict[str, Any]]) -> Iterator[Block]:
    """Kind, labels and body of every block at the top."""
    for file in files:
        for kind, found in file.items():
            for body in found:
                labels = []
                for _ in range(LABELS.get(kind, 0)):
                    (label,) = (key for key in body if not key.startswith("__"))
                    labels.append(label.strip('"'))
                    body = body[label]
                yield kind, labels, body


def nested(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name and body of the blocks within one, and whether it is made by `dynamic`."""
    for name, value in body.items():
        if not (isinstance(value, list) and value and all(is_block(one) for one in value)):
            continue
        for one in value:
            if name == "dynamic":
                (label,) = (key for key in one if not key.startswith("__"))
                yield label.strip('"'), one[label]["content"][0], True
            else:
                yield name, one, False


def is_block(value: Any) -> bool:
    """Whether it is a block's body, or the label above one."""
    if not isinstance(value, dict):
        return False
    inner = [one for key, one in value.items() if not key.startswith("__")]
    return BLOCK in value or (len(inner) == 1 and is_block(inner[0]))


def arguments(body: dict[str, Any]) -> dict[str, Any]:
    """What a block sets, the blocks within it not included."""
    inside = {name for name, _, made in nested(body) if not made} | {"dynamic"}
    return {
        name: value
        for name, value in body.items()
        if not name.startswith("__") and name not in inside
    }


def code() -> str:
    """All files as one text, comments left out."""
    text = "\n".join(path.read_text() for path in FILES)
    return _COMMENT.sub(lambda found: found[1] or "", text)


def within(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The block within a block, by its path."""
    for name in names:
        body = next(inner for one, inner, _ in nested(body) if one == name)
    return body
