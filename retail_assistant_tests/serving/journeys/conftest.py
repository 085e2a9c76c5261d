"""The embedded catalog as stock, and the shipped journeys."""

import pytest

from retail_assistant.serving.journeys.scenario import Suite, load_journeys
from retail_assistant.serving.journeys.stock import Stock
from retail_assistant_tests.catalogs import assortment_of


@pytest.fixture(scope="session")
def stock() -> Stock:
    return Stock(assortment_of().sort("product_id"))


@pytest.fixture(scope="session")
def suite() -> Suite:
    return load_journeys()
