"""The comparison's page in a real browser: any answer is found, and nobody is asked anything."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect

from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.page import render_html
from retail_assistant_tests.evaluation.large import large_comparison

pytestmark = pytest.mark.slow

QUESTIONS = 60
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "<a href=\"javascript:document.title='taken'\">[x](https://example.com/x.png)</a> ]]> --> `"
)
RTL = "\u202eevil \u0634\u0643\u0631\u0627"
HUGE = "W" * 10_000_000
RIGHT = "true_positive"


def planted(column: str, texts: dict[str, str]) -> pl.Expr:
    return pl.col("dialogue_id").replace_strict(
        texts, default=pl.col(column), return_dtype=pl.String
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Sixty questions to three variants, some of them with text that wants to do something."""
    made = large_comparison(QUESTIONS, 3)
    hostile, rtl, huge = made.asked["dialogue_id"].head(3)
    messages = made.asked["grounded_prompt"].to_list()
    messages[0] = [{"role": "user", "content": f"<record>\n{HOSTILE}\n</record>\n{HOSTILE}"}]
    asked = made.asked.with_columns(
        question=planted("question", {hostile: HOSTILE, rtl: RTL}),
        category=planted("category", {hostile: HOSTILE}),
        grounded_prompt=pl.Series(messages),
    )
    answers = made.answered.with_columns(
        answer=planted("answer", {hostile: HOSTILE, rtl: RTL, huge: HUGE}),
        error_class=pl.when(outcome="refused").then(pl.lit("refused_wrongly")),
        sem_score=pl.lit(0.5),
    )
    return replace(made, asked=asked, answered=answers)


@pytest.fixture(scope="module")
def report(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(comparison, title="Comparison"))
    assert path.stat().st_size < 8_000_000, "ten megabytes of an answer are not in the page"
    return path


@pytest.fixture
def page(report: Path, browser_page: Page, refused: list[str]) -> Iterator[Page]:
    """The page from file://; it may not fail, ask anybody, or do what planted text wants."""
    errors: list[str] = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.on("console", lambda told: errors.append(told.text))
    opened(browser_page, report)
    yield browser_page
    assert (errors, refused) == ([], [])
    assert browser_page.title() == "Comparison"


def opened(page: Page, report: Path) -> None:
    page.goto("about:blank")  # to the same file again would only move to a place in it
    page.goto(report.as_uri())
    expect(page.locator("html")).to_have_attribute("data-ready", "true")


def counted(page: Page, count: int) -> None:
    expect(page.locator("#shown")).to_have_text(f"{count} of {QUESTIONS} questions")


def first_question(page: Page) -> Locator:
    """The first question of the list, opened."""
    question = page.locator("#questions details.question").first
    question.locator("> summary").click()
    return question


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_planted_text_is_shown_and_does_nothing(page: Page) -> None:
    page.fill("#filter", "onerror")
    counted(page, 1)
    question = first_question(page)
    for summary in question.locator(".prompt > summary").all():
        summary.click()
    expect(question.locator(".answer").first).to_have_text(HOSTILE)
    expect(question.locator("pre").last).to_contain_text(HOSTILE)
    expect(question.locator(".records pre")).to_have_text(f"<record>\n{HOSTILE}\n</record>")
    assert page.locator("img").count() == 0
    assert page.locator("main script").count() == 0
    hrefs = page.eval_on_selector_all("a", "links => links.map(link => link.href)")
    assert all(href.startswith("file:") and "#" in href for href in hrefs)
    page.click("#clear")
    counted(page, QUESTIONS)
    page.fill("#filter", "evil")
    counted(page, 1)
    answer = first_question(page).locator(".answer").first
    assert answer.get_attribute("dir") == "auto"
    page.click("#clear")
    counted(page, QUESTIONS)
    page.fill("#filter", "wwwwwwwwww")
    counted(page, 1)
    expect(first_question(page).locator(".answer").first).to_contain_text("9998000 more characters")


def test_filters_find_what_they_name(page: Page, comparison: Comparison) -> None:
    counted(page, QUESTIONS)
    answers = comparison.answered
    variant = page.locator("#variant option").nth(2).inner_text()
    page.select_option("#variant", label=variant)
    page.select_option("#outcome", "refused")
    counted(page, answers.filter(variant=variant, outcome="refused").height)
    page.select_option("#variant", "")
    refused = answers.filter(outcome="refused")["dialogue_id"].n_unique()
    counted(page, refused)
    page.select_option("#outcome", "")
    page.select_option("#error", "refused_wrongly")
    counted(page, refused)
    page.select_option("#error", "")
    attribute = comparison.asked["asked_attribute"][5]
    page.select_option("#attribute", attribute)
    counted(page, comparison.asked.filter(asked_attribute=attribute).height)
    page.click("#clear")
    page.select_option("#agreement", "wrong")
    right = answers.group_by("dialogue_id").agg(pl.col("correct").sum())
    counted(page, right.filter(correct=0).height)
    page.click("#clear")
    counted(page, QUESTIONS)


def test_a_cell_of_two_variants_lists_its_questions(page: Page, comparison: Comparison) -> None:
    names = page.locator("#first option").all_inner_texts()
    page.select_option("#first", "0")
    page.select_option("#second", "1")
    first, second = (
        comparison.answered.filter(variant=name).select("dialogue_id", "outcome")
        for name in names[:2]
    )
    both = first.join(second, on="dialogue_id")
    cells = page.locator("#matrix td button")
    assert sum(map(int, cells.all_inner_texts())) == QUESTIONS
    wanted = f"{names[0]}: true positive, {names[1]}: refused"
    count = both.filter(outcome=RIGHT, outcome_right="refused").height
    assert count > 0
    cells.and_(page.get_by_label(f"{wanted}: {count} questions")).click()
    counted(page, count)
    expect(page.locator("#chip")).to_contain_text(wanted)
    page.click("#chip")
    counted(page, QUESTIONS)
    differing = both.filter(pl.col("outcome") != pl.col("outcome_right")).height
    expect(page.locator("#differing")).to_contain_text(f"of {differing} with another outcome")
    page.get_by_role("button", name="list them all").click()
    counted(page, differing)


def test_the_heat_map_counts_what_was_asked(page: Page, comparison: Comparison) -> None:
    page.select_option("#heat-by", "category")
    rows = page.locator("#heat tbody tr")
    assert rows.count() == min(25, comparison.asked["category"].n_unique())
    button = page.locator("#heat td button").first
    count = int(button.inner_text())
    button.click()
    counted(page, count)


def test_any_answer_has_a_link_and_opens_by_keyboard(page: Page, comparison: Comparison) -> None:
    last = comparison.asked["dialogue_id"][-1]
    page.evaluate("id => { location.hash = `question=${id}`; }", last)
    counted(page, 1)
    question = page.locator("#questions details.question[open]")
    expect(question.get_by_role("link")).to_have_attribute("href", f"#question={last}")
    expect(question.locator("tbody tr")).to_have_count(3)
    page.keyboard.press("Home")
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    counted(page, QUESTIONS)
    page.locator("#questions details.question > summary").nth(3).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#questions details.question[open] .gold")).to_be_visible()
    page.locator("#next").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#page")).to_have_text("page 2 of 3")
    page.keyboard.press("Enter")
    expect(page.locator("#next")).to_be_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(page: Page, report: Path, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, report)
    page.fill("#filter", "onerror")
    counted(page, 1)
    first_question(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    light, dark = "rgb(247, 248, 250)", "rgb(20, 24, 30)"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == (light if scheme == "light" else dark)


def test_what_is_left_out_is_told(
    comparison: Comparison, browser_page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_html(comparison, title="Comparison", most_characters=20_000))
    opened(browser_page, path)
    expect(browser_page.get_by_text("For this file's size the texts of")).to_be_visible()
    browser_page.click("#next")
    browser_page.click("#next")
    question = first_question(browser_page)
    expect(question).to_contain_text("answered.parquet beside it has them")
    expect(question.locator("li .badge")).to_have_count(3)
