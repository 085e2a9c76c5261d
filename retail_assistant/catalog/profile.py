"""A retailer's profile: one YAML file that says how the catalog is read, selected and watched."""

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.catalog.assortment import AssortmentPolicy
from retail_assistant.catalog.changes import RefreshPolicy
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.mapping import Columns, CsvDialect
from retail_assistant.settings import get_settings


class ProfileError(ValueError):
    """A profile that cannot be used: file, section, field, value and what is allowed."""


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


def load_profile(path: Path) -> CatalogProfile:
    """Return the profile in the YAML file ``path``.

    Raises ProfileError for a file that is absent or no YAML, and for unknown or wrong fields.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())[:300]
        raise ProfileError(f"profile {path} cannot be read ({cause}); allowed: YAML") from error
    try:
        return CatalogProfile.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ProfileError(f"profile {path}: {_problems(error)}") from error


def get_profile() -> CatalogProfile:
    """The profile that the settings name (``RETAIL_CATALOG_PROFILE``)."""
    path = get_settings().catalog_profile
    return _at(path, path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _at(path: Path, _changed: int) -> CatalogProfile:
    return load_profile(path)


def _problems(error: ValidationError) -> str:
    sections = ", ".join(CatalogProfile.model_fields)
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        given = "" if problem["type"] == "missing" else f" (given: {str(problem['input'])[:80]})"
        lines.append(f"{place}: {problem['msg']}{given}")
    return f"{'; '.join(lines)}; sections: {sections}"
