"""How things are written on the page. Escaping is the templates' part."""

from typing import NamedTuple

from retail_assistant.serving.reviewing import shown_text
from retail_assistant.serving.turns import ProductCard

_BULLET = "- "
_TINTS = 6


class Block(NamedTuple):
    """A paragraph's lines, or a list's items."""

    is_list: bool
    lines: list[str]


def blocks(text: str) -> list[Block]:
    """An answer's paragraphs and "- " lists. It is plain text otherwise: no other markup counts."""
    found: list[Block] = []
    is_new = True
    for line in map(str.strip, shown_text(text).split("\n")):
        is_item = line.startswith(_BULLET)
        if line and (is_new or found[-1].is_list != is_item):
            found.append(Block(is_item, []))
        if line:
            found[-1].lines.append(line.removeprefix(_BULLET).strip() if is_item else line)
        is_new = not line
    return found


def percent_off(card: ProductCard) -> int | None:
    """How much less a product costs than before, whole percent; None where it does not."""
    if card.price is None or card.list_price is None or not 0 <= card.price < card.list_price:
        return None
    return round(100 * (1 - card.price / card.list_price)) or None


def tint(card: ProductCard) -> int:
    """Which of the style sheet's colours stands for a picture that there is none of."""
    return sum((card.category or card.name).encode()) % _TINTS
