"""Which products a shopper will look at at all: levels, brand, attributes, price.

Every value a product can be filtered by stands in one text column, FACETS, in a normal form that
holds no separator. A filter becomes a typed LanceDB expression over that column; no text of a
shopper is ever part of a query string.
"""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from retail_assistant.catalog.embedding import normalise, normalised

if TYPE_CHECKING:
    from lancedb.expr import Expr

FACETS = "facets"
PRICE = "price"
LEVELS = ("department", "category", "subcategory", "brand")


class ProductFilter(BaseModel):
    """What a product must be; all that is given must hold.

    Texts are compared without regard to case, punctuation and plurals of audiences ("women's" is
    "Women"). An attribute holds a value if that is its whole value or one of its values ("Cotton"
    fits "Cotton, Polyester", not "Cotton Blend"). A product without a price fits no price range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    department: str | None = Field(default=None, description="Level 0 of the category tree.")
    category: str | None = Field(default=None, description="Level 1 of the category tree.")
    subcategory: str | None = Field(default=None, description="Level 2 of the category tree.")
    brand: str | None = Field(default=None, description="The brand.")
    attributes: dict[str, str] = Field(
        default_factory=dict, description="Attribute name -> value, all of which must hold."
    )
    min_price: float | None = Field(default=None, ge=0, description="Least price, in rupees.")
    max_price: float | None = Field(default=None, ge=0, description="Highest price, in rupees.")

    @model_validator(mode="after")
    def _prices_are_a_range(self) -> ProductFilter:
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_price {low:g} is above max_price {high:g}")
        return self

    def expression(self) -> Expr | None:
        """The filter over the columns FACETS and PRICE; None where everything passes."""
        from lancedb.expr import col, lit

        levels = {f":{name}": getattr(self, name) for name in LEVELS}
        wanted = [_facet(name, value) for name, value in levels.items() if value is not None]
        wanted += [_facet(normalise(name), value) for name, value in self.attributes.items()]
        parts = [col(FACETS).contains(lit(facet)) for facet in wanted]
        if self.min_price is not None:
            parts.append(col(PRICE) >= lit(float(self.min_price)))
        if self.max_price is not None:
            parts.append(col(PRICE) <= lit(float(self.max_price)))
        return reduce(and_, parts) if parts else None


def _facet(name: str, value: str) -> str:
    return f"|{name}={normalise(value)}|"


def facets() -> pl.Expr:
    """What a PRODUCTS row can be filtered by: "|:brand=zed||fabric=cotton||neck=v neck|", str."""
    levels = [
        pl.format("|:{}={}|", pl.lit(name), normalised(pl.col(name))).fill_null("")
        for name in LEVELS
    ]
    attributes = pl.col("attributes").list.eval(_attribute_facets()).list.join("")
    return pl.concat_str(*levels, attributes).alias(FACETS)


def _attribute_facets() -> pl.Expr:
    """The whole value of an attribute, and each of its parts between commas."""
    entry = pl.element().struct
    name, value = normalised(entry.field("name")), entry.field("value")
    parts = pl.concat_list(value, value.str.split(",")).list.eval(normalised(pl.element()))
    parts = parts.list.unique(maintain_order=True)
    return pl.format("|{}={}|", name, parts.list.join(pl.format("||{}=", name)))


def price() -> pl.Expr:
    """What a product costs: its discounted price, where it has none its retail price."""
    return pl.coalesce("discounted_price", "retail_price").alias(PRICE)
