"""The table of faults: written from what was seen, and complete."""

from pathlib import Path

import pytest

from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.faults.table import BEGIN, END, FaultTable, faults_of, written_rows

PAGE = REPOSITORY / "docs" / "reliability.md"

pytest_plugins = ["pytester"]


def test_page_names_every_fault_that_is_tested(request: pytest.FixtureRequest) -> None:
    tested = {row for item in request.session.items for row in faults_of(item)}

    missing = tested - written_rows(PAGE.read_text())

    assert not missing, "run `make faults`"


def test_table_says_what_was_seen(pytester: pytest.Pytester, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    pytester.makeini("[pytest]\nmarkers = fault(happens, outcome): a row")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.fault("b breaks", "it is mended")
        @pytest.mark.parametrize("number", [1, 2])
        def test_held(number): pass

        @pytest.mark.fault("a breaks", "it is told")
        @pytest.mark.parametrize("number", [1, 2])
        def test_failed(number): assert number == 1, "not told"

        @pytest.mark.fault("c breaks", "it is seen")
        def test_skipped(): pytest.skip("no c here")
        """
    )

    pytester.inline_run("--faults-table", str(page), plugins=[Rows(FaultTable(page))])

    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert "1 | A breaks | It is told | **failed**: AssertionError: not told" in rows[1]
    assert "2 | B breaks | It is mended | held | 2 |" in rows[2]
    assert "3 | C breaks | It is seen | not run: no c here | 1 |" in rows[3]
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert ("B breaks", "It is mended") in written_rows(text)


class Rows:
    """What the project's own conftest does with the mark."""

    def __init__(self, table: FaultTable) -> None:
        self.table = table

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.addoption("--faults-table")

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self.table)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.user_properties += [("fault", one) for one in faults_of(item)]
