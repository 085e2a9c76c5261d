"""What SECURITY.md promises is shown by tests that are there."""

import re
from pathlib import Path

from retail_assistant_tests.conftest import REPOSITORY

TESTS = Path(__file__).parent


def test_every_promise_names_tests_that_are_marked_as_faults() -> None:
    page = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    table = page.partition("| attack |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 15
    for row in table:
        files = re.findall(r"`([\w/]+\.py)`", row.split("|")[3])
        assert files, row
        for name in files:
            assert "pytest.mark.fault(" in (TESTS / name).read_text(encoding="utf-8"), name
