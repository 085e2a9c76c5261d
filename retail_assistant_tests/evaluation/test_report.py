import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO

import polars as pl
import pytest
from rich.console import Console

from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.curve_plots import training_curves
from retail_assistant.evaluation.figures import ordered_variants
from retail_assistant.evaluation.metrics import score
from retail_assistant.evaluation.page import render_html
from retail_assistant.evaluation.plots import comparison_plots
from retail_assistant.evaluation.report import headline, markdown_summary, print_report

Frames = Callable[..., pl.DataFrame]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> | [bold]*x*[/bold]"
HOSTILE_NAME = "job <b>x</b> [red]|`y`"


@pytest.fixture(scope="module")
def comparison(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> Comparison:
    predictions = [
        predict(HOSTILE_NAME, answers={"unseen-4": HOSTILE}),
        predict("job-2", answers=dict.fromkeys(("unseen-1", "unseen-2", "unseen-4"), "Silk")),
        predict("base/grounded", "The fabric is Linen."),
    ]
    scored = score(dialogues, pl.concat(predictions), products)
    costs = pl.DataFrame({"variant": [HOSTILE_NAME], "train_tokens": [20_300], "note": [HOSTILE]})
    return compare(
        scored,
        baseline="base/grounded",
        champion="job-2",
        costs=costs,
        variants=["job-9"],
        reasons={"job-9": "never trained", "old <i>": "removed from the studies"},
        models=pl.DataFrame(
            {
                "variant": [HOSTILE_NAME, "job-2"],
                "study": ["sizes <i>"] * 2,
                "data_fraction": [0.5, 1.0],
            }
        ),
        resamples=100,
    )


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    losses = {"step": [1, 2, 2], "tokens": [9, 18, 18], "loss": [2.0, 1.0, None]}
    history = pl.DataFrame({**losses, "eval_loss": [None, None, 1.5]})
    curves = training_curves({HOSTILE_NAME: history})
    return render_html(comparison, title="Comparison <1>", curves=curves, footnotes=[HOSTILE])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_the_page_asks_nobody_for_anything(page: str) -> None:
    parser = _Tags()
    parser.feed(page)
    assert [attrs for tag, attrs in parser.tags if tag == "script" and attrs.get("src")] == []
    links = [attrs["href"] for tag, attrs in parser.tags if "href" in attrs]
    assert [link for link in links if not str(link).startswith("#")] == ["data:,"]
    policies = [a["content"] for tag, a in parser.tags if "Content-Security-Policy" in a.values()]
    assert policies
    assert "default-src 'none'" in str(policies[0])
    assert "script-src 'sha256-" in str(policies[0])
    handlers = [name for _, attrs in parser.tags for name in attrs if name.startswith("on")]
    assert handlers == []
    assert page.count("plotly.js v") <= 2


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_untrusted_text_is_escaped(page: str) -> None:
    parser = _Tags()
    parser.feed(page)
    tags = [tag for tag, _ in parser.tags]
    assert tags.count("script") == 5  # figures, answers; plotly, plots, filters
    assert "img" not in tags
    assert "alert(1)</script>" not in page
    assert "<i>" not in page.split("<script")[0]
    assert "&lt;img src=x" in page


def test_the_page_says_what_was_measured(page: str, comparison: Comparison) -> None:
    assert "Comparison &lt;1&gt;" in page
    assert "job-9" in page
    assert "20,300" in page
    for plot in ("accuracy", "precision", "outcomes", "overview", "abstention", "hallucination"):
        assert f'id="plot-{plot}"' in page
    for plot in ("loss-step", "loss-tokens", "data", "pareto-train_tokens"):
        assert f'id="plot-{plot}"' in page
    assert "removed from the studies: old &lt;i&gt;" in page
    assert "never trained: job-9" in page
    assert "Right or not, against the champion" in page
    assert re.search(r"4 of 5", page)


def test_the_headline_names_winner_baseline_and_counts(comparison: Comparison) -> None:
    sentence = headline(comparison)
    assert sentence.startswith(HOSTILE_NAME)
    assert "80.0% of the questions (4 of 5" in sentence
    assert "base/grounded, on the same questions, 20.0% (1 of 5)" in sentence
    assert "p (Holm) = 0.500" in sentence


def test_jobs_come_after_baselines_the_best_one_last(comparison: Comparison) -> None:
    assert ordered_variants(comparison) == ["base/grounded", "job-2", HOSTILE_NAME]


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_markdown_is_escaped(comparison: Comparison) -> None:
    text = markdown_summary(comparison)
    assert "<b>" not in text
    assert "&#60;b&#62;" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in table[:5]}
    assert len(widths) == 1
    assert "job-9 (never trained)" in text


def test_the_terminal_shows_names_as_they_are(comparison: Comparison) -> None:
    stream = StringIO()
    print_report(comparison, Console(file=stream, width=200))
    assert "[red]" in stream.getvalue()
    assert "Accuracy, unseen" in stream.getvalue()


def test_an_empty_comparison_still_renders(comparison: Comparison, dialogues: pl.DataFrame) -> None:
    scored = score(
        dialogues,
        pl.DataFrame(
            schema={
                "dialogue_id": pl.String,
                "variant": pl.String,
                "answer": pl.String,
                "finish_reason": pl.String,
            }
        ),
    )
    empty = compare(scored, baseline={}, variants=["job-1"])
    assert comparison_plots(empty) == []
    assert "No variant has answers" in render_html(empty, title="Nothing")
    assert "job-1" in markdown_summary(empty)
    print_report(empty, Console(file=StringIO()))
