"""One server for the tests that change nothing about it."""

from collections.abc import Iterator

import pytest

from retail_assistant_tests.serving.api.shops import Shop, open_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("storage")) as opened:
        yield opened
