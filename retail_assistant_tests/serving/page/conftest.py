"""The shop that all tests of the page ask."""

from collections.abc import Iterator

import pytest

from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.integration.browser import browser_page, refused
from retail_assistant_tests.serving.page.shop import HOSTILE_ROWS, QuotingAssistant

__all__ = ["browser_page", "refused"]


@pytest.fixture(scope="session")
def assistant() -> QuotingAssistant:
    """Quotes the embedded catalog, and two products whose texts want to do something."""
    products = assortment_of()
    return QuotingAssistant([*products.to_dicts(), *HOSTILE_ROWS])


@pytest.fixture
def shop(assistant: QuotingAssistant) -> Iterator[QuotingAssistant]:
    """The same, without what the test before made of it."""
    assistant.fault, assistant.ended = None, []
    assistant.may_go_on.set()
    yield assistant
    assistant.may_go_on.set()
