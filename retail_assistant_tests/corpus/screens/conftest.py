"""The small catalog as the screens see it."""

import polars as pl
import pytest

from retail_assistant.corpus.screens.catalog_text import CatalogText


@pytest.fixture(scope="session")
def small_text(small_catalog: pl.DataFrame) -> CatalogText:
    return CatalogText(small_catalog)
