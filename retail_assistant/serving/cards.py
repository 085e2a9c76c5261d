"""A product as clients show it."""

from collections.abc import Mapping
from typing import Any

from retail_assistant.corpus.rendering import (
    MAX_NAME_CHARACTERS,
    item_code,
    plain_text,
    rendered_attributes,
)
from retail_assistant.serving.prices import current_price, list_price
from retail_assistant.serving.turns import Attribute, ProductCard


def product_card(row: Mapping[str, Any]) -> ProductCard:
    """The card of a PRODUCTS row; its picture is at /pictures/<product_id> on this server."""
    product_id = row["product_id"]
    category = row.get("subcategory") or row.get("category") or row.get("department")
    return ProductCard(
        product_id=product_id,
        item=plain_text(item_code(product_id)),
        name=plain_text(row["name"], MAX_NAME_CHARACTERS),
        brand=plain_text(row.get("brand") or "") or None,
        category=plain_text(category or "") or None,
        price=current_price(row),
        list_price=list_price(row),
        image=f"/pictures/{product_id}" if row.get("image_urls") else None,
        attributes=[Attribute(name=name, value=value) for name, value in rendered_attributes(row)],
    )
