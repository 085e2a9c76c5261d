"""Fixtures that more than one stage uses."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from retail_assistant.settings import get_settings
from retail_assistant_tests.emulator import gcs_emulator
from retail_assistant_tests.faults.table import FaultTable, faults_of
from retail_assistant_tests.model_families import save_tiny_chat_model

__all__ = ["gcs_emulator"]

# No test is a stopwatch: machines are noisy.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

WHOLE_GRAPH = tuple(
    f"integration/test_{name}.py"
    for name in ("chat", "journeys", "kill", "line", "operations", "serve", "ui")
)
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For several workers (`make tests`): a file's tests share one, and so do those that share the
    run of the whole graph."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "the whole graph" if file.endswith(WHOLE_GRAPH) else file

    return ByFile(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make faults` has the table of what the tests marked `fault` saw written into a page."""
    parser.addoption("--faults-table", type=Path, help="a page with the table of faults")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FaultTable(config.getoption("--faults-table")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones start first."""
    items.sort(key=lambda item: "integration" not in item.path.parts)
    for item in items:
        item.user_properties += [("fault", one) for one in faults_of(item)]


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


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """Settings are read from the environment as the test leaves it, and again after the test."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of 0.4 million random weights, for `RETAIL_BASE_MODEL`.

    A Llama with a ChatML tokenizer of 4096 tokens learned from the embedded catalog.
    """
    folder = tmp_path_factory.mktemp("tiny-model")
    save_tiny_chat_model(folder)
    return folder
