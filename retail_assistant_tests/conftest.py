"""Fixtures that more than one stage uses."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_catalog() -> Path:
    """The first 999 rows of the public Flipkart sample; skips where they are not at hand."""
    named = os.environ.get("RETAIL_REAL_CATALOG")
    path = (
        Path(named) if named else REPOSITORY.parent / "shared" / "data" / "flipkart_sample_999.csv"
    )
    if not path.is_file():
        pytest.skip(f"no real catalog rows at {path}; name the file in RETAIL_REAL_CATALOG")
    return path
