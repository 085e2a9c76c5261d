"""Catalogs for tests: cleaned as the asset cleans them, through a file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import polars as pl

from retail_assistant.catalog.assortment import AssortmentPolicy, select_assortment
from retail_assistant.catalog.clean import CleanSummary, clean_catalog
from retail_assistant.catalog.profile import FLIPKART_PROFILE, CatalogProfile
from retail_assistant.settings import EMBEDDED_CATALOG


class Cleaned(NamedTuple):
    """What cleaning left of a catalog, in memory."""

    products: pl.DataFrame
    rejected: pl.DataFrame
    summary: CleanSummary


def cleaned(catalog: Path | str, profile: CatalogProfile = FLIPKART_PROFILE) -> Cleaned:
    """The products and rejected rows of a catalog file."""
    with TemporaryDirectory() as folder:
        found = clean_catalog(str(catalog), Path(folder), profile)
        return Cleaned(
            pl.read_parquet(found.products), pl.read_parquet(found.rejected), found.summary
        )


def cleaned_frame(rows: pl.DataFrame) -> Cleaned:
    """The same of a frame in the public sample's columns."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.csv"
        rows.write_csv(path)
        return cleaned(path)


def assortment_of(catalog: Path | str = EMBEDDED_CATALOG) -> pl.DataFrame:
    """The default assortment of a catalog file (the embedded one)."""
    return select_assortment(cleaned(catalog).products.lazy(), AssortmentPolicy())
