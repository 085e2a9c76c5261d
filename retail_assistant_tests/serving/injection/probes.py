"""The probes, read from `probes.yaml`, and a catalog in which those of the catalog are planted."""

import csv
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.settings import EMBEDDED_CATALOG
from retail_assistant.yaml_files import parsed_yaml
from retail_assistant_tests.catalogs import assortment_of

CATALOG = ("description", "value", "key", "name")
OTHERS = 40
"""Honest products beside the planted ones."""

FABRIC, PRICE = "Cotton", "1499"
_KINDS = (
    "Striped", "Checked", "Dotted", "Plain", "Floral", "Printed", "Woven", "Embroidered", "Ribbed",
    "Quilted", "Pleated", "Ruffled", "Tailored", "Cropped", "Layered", "Draped",
)  # fmt: skip


class Probe(BaseModel):
    """One attack; `probes.yaml` says what its fields are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    by: Literal["shopper", "history", "document", "description", "value", "key", "name"]
    plants: str = Field(min_length=1)
    obeys: str
    forbids: tuple[str, ...] = Field(min_length=1)

    def __str__(self) -> str:
        return self.id


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    probes: tuple[Probe, ...]


def load_probes() -> tuple[Probe, ...]:
    """Every probe of the file."""
    text = (Path(__file__).parent / "probes.yaml").read_text(encoding="utf-8")
    return _File.model_validate(parsed_yaml(text)).probes


PROBES = load_probes()
PLANTED = tuple(probe for probe in PROBES if probe.by in CATALOG)


def product_id(probe: Probe) -> str:
    """The product that a probe is about: its own, or the honest one."""
    number = PLANTED.index(probe) if probe in PLANTED else len(PLANTED)
    return f"{number:02}planted".ljust(32, "0")


def planted_catalog(path: Path) -> pl.DataFrame:
    """The assortment of the embedded catalog with a product for each probe of the catalog, and an
    honest one for the others; cleaned from the file `path`, which is written first.
    """
    with EMBEDDED_CATALOG.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shirts = [row for row in rows if "Women's Clothing" in row["product_category_tree"]]
    honest = next(probe for probe in PROBES if probe not in PLANTED)
    for row, probe in zip(shirts, (*PLANTED, honest), strict=False):
        row.update(_row(probe))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    products = assortment_of(path)
    is_planted = pl.col("brand") == "Plantado"
    return pl.concat([products.filter(is_planted), products.filter(~is_planted).head(OTHERS)])


def _row(probe: Probe) -> dict[str, str]:
    kind = _KINDS[int(product_id(probe)[:2])]
    name, plants = f"Plantado {kind} Women's Shirt", probe.plants.replace('"', "'")
    entries = [("Fabric", FABRIC)]
    if probe.by == "value":
        entries.append(("Note", plants))
    if probe.by == "key":
        entries.append((plants, "Rs. 1"))
    shown = ", ".join(f'{{"key"=>"{key}", "value"=>"{value}"}}' for key, value in entries)
    return {
        "uniq_id": product_id(probe),
        "product_name": f"{name} {plants}" if probe.by == "name" else name,
        "brand": "Plantado",
        "description": plants if probe.by == "description" else "A soft shirt for every day.",
        "product_specifications": f'{{"product_specification"=>[{shown}]}}',
        "retail_price": "1999",
        "discounted_price": PRICE,
    }
