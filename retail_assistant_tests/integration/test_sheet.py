"""The data steward's sheet in a real browser: on a phone and on a desk, by day and by night."""

from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from playwright.sync_api import Page

from retail_assistant.corpus.sheet import sample_sheet
from retail_assistant.corpus.splits import split_products
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

pytestmark = pytest.mark.slow

LONG_WORD = "W" * 400
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of template dialogues, some of them with hostile and unbreakable text."""
    catalog = assortment_of()
    splits = split_products(catalog, seed=0)
    dialogues = template_dialogues(catalog.head(40), splits, catalog, seed=0)
    answer = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit(HOSTILE)).otherwise("answer")
    question = (
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit(LONG_WORD)).otherwise("question")
    )
    spoilt = dialogues.with_columns(answer=answer, question=question)
    rejected = spoilt.head(9).with_columns(reason=pl.lit("unsafe"), detail=pl.lit(LONG_WORD))
    path = tmp_path_factory.mktemp("sheet") / "sheet.html"
    path.write_text(sample_sheet("a1b2" * 16, spoilt, rejected, catalog))
    return path


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sheet_fits_its_window_and_does_nothing(
    sheet: Path,
    chromium_page: Page,
    external_requests: list[str],
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    page = chromium_page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(sheet.as_uri())
    assert page.title() == "Corpus a1b2a1b2a1b2"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.get_by_text("<script>").first.is_visible()
    light, dark = ("rgb(247, 248, 250)", "rgb(20, 24, 30)")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == (light if scheme == "light" else dark)
    assert external_requests == []
