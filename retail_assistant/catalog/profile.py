"""A retailer's profile: one YAML file that says how the catalog is read, selected and watched."""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.assortment import AssortmentPolicy
from retail_assistant.catalog.changes import RefreshPolicy
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.mapping import Columns, CsvDialect
from retail_assistant.profiles import load_profile
from retail_assistant.settings import get_settings


class CatalogProfile(BaseModel):
    """Everything that differs from retailer to retailer; every section may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Columns = Field(default=Columns(), description="which column holds what")
    csv: CsvDialect = Field(default=CsvDialect(), description="how the file is written down")
    assortment: AssortmentPolicy = Field(
        default=AssortmentPolicy(), description="which products the assistant is trained on"
    )
    images: ImagePolicy = Field(
        default=ImagePolicy(), description="how product images are fetched, and which are taken"
    )
    refresh: RefreshPolicy = Field(
        default=RefreshPolicy(), description="how much a new catalog may differ from the last"
    )


FLIPKART_PROFILE = CatalogProfile()


def get_profile() -> CatalogProfile:
    """The profile that the settings name (``RETAIL_CATALOG_PROFILE``)."""
    path = get_settings().catalog_profile
    return _at(path, path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _at(path: Path, _changed: int) -> CatalogProfile:
    return load_profile(path, CatalogProfile)
