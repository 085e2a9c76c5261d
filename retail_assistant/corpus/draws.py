"""Stable draws: which item is picked depends on the seed and the item itself, never on its row.

A draw by hash keeps its result when unrelated rows come or go, which a seeded random generator
that walks over the rows does not. blake2b is used because it is the same on every platform and
in every process, unlike ``hash()`` and unlike polars' row hashes.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import TypeVar

Item = TypeVar("Item")

_HASH_BYTES = 8
_HASH_RANGE = 1 << (8 * _HASH_BYTES)
_SEPARATOR = "\x1f"  # the ASCII unit separator, so that ("a", "bc") and ("ab", "c") differ


def stable_digest(*parts: object) -> str:
    """16 hexadecimal digits that depend on the parts (as text) and on nothing else."""
    text = _SEPARATOR.join(map(str, parts))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()


def stable_number(*parts: object) -> int:
    """A whole number in [0, 2**64) that depends on the parts and on nothing else."""
    return int(stable_digest(*parts), 16)


def stable_fraction(*parts: object) -> float:
    """A number in [0, 1), uniform over different parts."""
    return stable_number(*parts) / _HASH_RANGE


def hash_order(items: Iterable[Item], key: Callable[[Item], str], *purpose: object) -> list[Item]:
    """The items in an order drawn from each item's own key; equal keys keep their order."""
    return sorted(items, key=lambda item: (stable_number(*purpose, key(item)), key(item)))


def pick(options: Sequence[Item], *purpose: object) -> Item:
    """One of the options, drawn by the purpose. Raises IndexError when there is none."""
    if not options:
        raise IndexError("there is nothing to pick from")
    return options[stable_number(*purpose) % len(options)]
