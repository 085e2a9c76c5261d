"""How prices are said: the catalog's are in rupees."""

from collections.abc import Mapping
from typing import Any

CURRENCY = "\u20b9"
"""The rupee sign, before the amount."""


def price_text(amount: float) -> str:
    """An amount as an answer says it: 1952.0 is "₹1,952", 99.5 is "₹99.50"."""
    return f"{CURRENCY}{amount:,.2f}".removesuffix(".00")


def current_price(row: Mapping[str, Any]) -> float | None:
    """What a PRODUCTS row costs now, in rupees; None where the catalog does not say."""
    discounted, retail = row.get("discounted_price"), row.get("retail_price")
    return discounted if discounted is not None else retail


def list_price(row: Mapping[str, Any]) -> float | None:
    """What a PRODUCTS row cost before its discount; None where it has none."""
    discounted, retail = row.get("discounted_price"), row.get("retail_price")
    return retail if discounted is not None and retail is not None and retail > discounted else None
