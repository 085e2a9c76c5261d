"""A webhook, and settings that lead to it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.settings import Settings
from retail_assistant_tests.operations.webhook_server import Webhook, running_webhook

MakeSettings = Callable[..., Settings]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as found:
        yield found


@pytest.fixture
def settings_of(tmp_path: Path) -> MakeSettings:
    def make(**given: Any) -> Settings:
        return Settings(**{"storage_uri": str(tmp_path / "storage"), **given})

    return make
