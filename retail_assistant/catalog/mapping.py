"""How a retailer's columns become ours: names, formats and the dialect of the file.

The defaults are the public Flipkart sample's; `retail_assistant/data/flipkart.yaml` spells them
out. What comes out of here are the text columns that cleaning reads (`RAW_COLUMNS`).
"""

import codecs
import json
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from retail_assistant.catalog.schema import ATTRIBUTE, RAW_COLUMNS

STATED_ATTRIBUTES = "stated_attributes"
"""list[struct{name, value}]: attributes that the file states in columns of their own or as JSON."""

_ATTRIBUTES = pl.List(ATTRIBUTE)


class CsvDialect(BaseModel):
    """How the file is written down; parquet needs none of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: str = Field(default=",", description="what stands between fields: one character")
    encoding: str = Field(
        default="utf-8", description="the text encoding, such as utf-8, windows-1252 or utf-16"
    )
    max_record_bytes: int = Field(
        default=1 << 20,
        ge=1 << 10,
        le=1 << 26,
        description="a longer record is rejected: one field must not fill the memory",
    )

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) != 1 or not value.isascii() or value in '"\n\r':
            raise ValueError("allowed: one ASCII character that is no quote and no line end")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError(
                "allowed: a text encoding such as utf-8, windows-1252 or utf-16"
            ) from error


def column_names(given: str | list[str] | None) -> list[str]:
    """Return the columns that a field of ``Columns`` names: none, one or several."""
    return [] if given is None else [given] if isinstance(given, str) else given


class Columns(BaseModel):
    """Which column of the file holds what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: str = Field(default="uniq_id", description="the product's id, unique in the file")
    name: str = Field(default="product_name", description="the product's name")
    category: str | list[str] = Field(
        default="product_category_tree",
        description="the column of the category path, or one column a level, broadest first",
    )
    category_separator: str = Field(
        default=">>", min_length=1, description="what stands between the levels of a path"
    )
    brand: str | None = Field(default="brand", description="the brand; null: none")
    description: str | None = Field(default="description", description="prose; null: none")
    specifications: str | None = Field(
        default="product_specifications", description="attributes in one column; null: none"
    )
    specifications_format: Literal["ruby", "json"] = Field(
        default="ruby",
        description="how they are written: a printed Ruby hash as in the public sample, or JSON"
        ' ({"Fabric": "Cotton"} or [{"name": "Fabric", "value": "Cotton"}])',
    )
    attributes: dict[str, str] = Field(
        default={}, description="attribute name -> the column that holds its value"
    )
    images: str | list[str] | None = Field(
        default="image", description="the column of image URLs (a list in any notation), or several"
    )
    retail_price: str | None = Field(default="retail_price", description="the list price")
    discounted_price: str | None = Field(default="discounted_price", description="the price asked")

    @model_validator(mode="after")
    def _names_are_columns(self) -> "Columns":
        if not all(self.required) or not all(self.used):
            raise ValueError("a column's name is empty; allowed: the name as in the file's header")
        return self

    @property
    def required(self) -> list[str]:
        """The columns without which a file is no catalog."""
        return [self.product_id, self.name, *column_names(self.category)]

    @property
    def used(self) -> list[str]:
        """Every column that is read, each once."""
        optional = (self.brand, self.description, self.specifications, self.retail_price)
        names = [*self.required, *optional, self.discounted_price, *column_names(self.images)]
        names += self.attributes.values()
        return list(dict.fromkeys(name for name in names if name is not None))


FLIPKART = Columns()
RFC_4180 = CsvDialect()


def mapped(rows: pl.LazyFrame, columns: Columns, found: list[str]) -> pl.LazyFrame:
    """Return ``rows`` (text columns as in the file) under the names of ``RAW_COLUMNS``.

    ``found`` are the file's columns; what is absent comes as null. Other columns of ``rows`` stay.
    Attributes from columns of their own or from JSON stand in ``STATED_ATTRIBUTES``, only there if
    the mapping has any. JSON that cannot be read leaves ``STATED_ATTRIBUTES`` null.
    """
    kept = [name for name in rows.collect_schema().names() if name not in found]

    def column(name: str | None) -> pl.Expr:
        return pl.col(name) if name in found else _nothing()

    is_json = columns.specifications_format == "json"
    sources = {
        "product_id": column(columns.product_id),
        "name": column(columns.name),
        "brand": column(columns.brand),
        "description": column(columns.description),
        "category_tree": _path(columns, column),
        "specifications": _nothing() if is_json else column(columns.specifications),
        "images": _joined([column(name) for name in column_names(columns.images)], " "),
        "retail_price": column(columns.retail_price),
        "discounted_price": column(columns.discounted_price),
    }
    stated = []
    if is_json:
        stated.append(column(columns.specifications).map_batches(_json_attributes, _ATTRIBUTES))
    if columns.attributes:
        values = {name: column(source) for name, source in columns.attributes.items()}
        stated.append(_from_columns(values))
    extra = [pl.concat_list(stated).alias(STATED_ATTRIBUTES)] if stated else []
    return rows.select(*kept, *(sources[name].alias(name) for name in RAW_COLUMNS), *extra)


def _joined(parts: list[pl.Expr], separator: str) -> pl.Expr:
    if len(parts) == 1:
        return parts[0]
    return pl.concat_str(parts, separator=separator, ignore_nulls=True) if parts else _nothing()


def _nothing() -> pl.Expr:
    return pl.lit(None, dtype=pl.String)


def _path(columns: Columns, column: Any) -> pl.Expr:
    """The category path with ">>" between its levels, as cleaning reads it."""
    if isinstance(columns.category, list):
        return _joined([column(name) for name in columns.category], " >> ")
    path = column(columns.category)
    if columns.category_separator == ">>":
        return path
    return path.str.replace_all(columns.category_separator, " >> ", literal=True)


def _from_columns(values: dict[str, pl.Expr]) -> pl.Expr:
    entries = [
        pl.struct(name=pl.lit(name), value=value.str.strip_chars())
        for name, value in values.items()
    ]
    stated = pl.concat_list(entries)
    return stated.list.filter(pl.element().struct.field("value").fill_null("") != "")


def _json_attributes(texts: pl.Series) -> pl.Series:
    """Attributes of JSON texts, each distinct text read once; null where it is no such JSON."""
    distinct = texts.unique().to_list()
    read = {text: _read_json(text) for text in distinct}
    return pl.Series(texts.name, [read[text] for text in texts], dtype=_ATTRIBUTES)


def _read_json(text: str | None) -> list[dict[str, str | None]] | None:
    if text is None or not text.strip():
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        found = [{"name": name, "value": value} for name, value in found.items()]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return None
    pairs = ((entry.get("name", entry.get("key")), entry.get("value")) for entry in found)
    return [
        {"name": str(name).strip() or None if name is not None else None, "value": stated}
        for name, value in pairs
        if (stated := _as_text(value))
    ]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_as_text, value)))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A lone surrogate is valid JSON and no valid text.
    return text.encode("utf-8", "replace").decode().strip()
