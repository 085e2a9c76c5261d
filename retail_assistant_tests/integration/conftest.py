"""Fixtures of the tests that run the whole graph, real servers and a real browser."""

from pathlib import Path

import pytest

from retail_assistant_tests.integration.browser import (
    browser_page,
    chromium_page,
    external_requests,
    refused,
)
from retail_assistant_tests.integration.line import JOBS, TINY_STUDY, FinishedLine, Line

__all__ = ["browser_page", "chromium_page", "external_requests", "finished_line", "refused"]


@pytest.fixture(scope="session")
def finished_line(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> FinishedLine:
    """A storage folder in which `retail-assistant run` has run the whole graph, two tiny jobs."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "studies").mkdir()
    (folder / "studies" / "tiny.yaml").write_text(TINY_STUDY)
    line = Line(folder / "var", folder / "studies", tiny_model_folder)
    first = line.run(*JOBS)
    print(f"\nfirst run of the whole graph: {first.seconds:.0f} s")
    assert "model_comparison" in first.words, first.errors[-3000:]
    return FinishedLine(line.storage, line.studies, line.base_model, first)
