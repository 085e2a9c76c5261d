"""A comparison in words: its headline, as Markdown for the Dagster UI, and in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.figures import ordered_variants
from retail_assistant.evaluation.pareto import COSTS

FOOTNOTES = (
    "Intervals: 95%, percentile bootstrap over products (all questions about a product are drawn"
    " together); Wilson's score interval where all answers of a set came out alike.",
    "Tests: exact McNemar on strict correctness, the same questions; p (Holm) is adjusted for the"
    " number of variants tested on the set.",
    "Other metrics: paired bootstrap over products, p from the share of resampled differences on"
    " either side of 0 (but no less than a sign test could give for as many products), p (Holm) as"
    " above.",
    "Questions without an answer count as answered with nothing and stay in every denominator.",
    "reference_*_loose: the reference implementation's rule (the stated product name occurs in any"
    " training answer), which a constant answer can win. Shown only to compare published tables.",
)


class KeyMetric(NamedTuple):
    """A column of the first table."""

    label: str
    metric: str
    subset: str
    higher_is_better: bool = True


KEY_METRICS: tuple[KeyMetric, ...] = (
    KeyMetric("Accuracy, unseen", "strict_accuracy", "unseen"),
    KeyMetric("Accuracy, recall", "strict_accuracy", "recall"),
    KeyMetric("Precision, unseen", "strict_precision", "unseen"),
    KeyMetric("Attribute F1", "attribute_f1", "unseen"),
    KeyMetric("Abstention recall", "abstention_recall", "unanswerable"),
    KeyMetric("Abstention precision", "abstention_precision", "all"),
    KeyMetric("Hallucinated products", "hallucinated_product_rate", "all", False),
    KeyMetric("Truncated", "truncated_rate", "all", False),
    KeyMetric("SemScore, unseen", "sem_score", "unseen"),
    KeyMetric("Truthfulness, unseen", "truthfulness", "unseen"),
)


def headline(comparison: Comparison) -> str:
    """The result in one sentence: the best variant on unseen products against its baseline."""
    tested = comparison.tests.filter(pl.col("subset") == "unseen").sort(
        pl.col("variant_right") / pl.col("questions"), "variant", descending=[True, False]
    )
    if tested.height:
        return _tested_headline(tested.row(0, named=True), comparison)
    measured = [
        (row["value"], variant, row)
        for variant in comparison.variants
        if (row := comparison.metric(variant, "strict_accuracy", "unseen")) is not None
    ]
    if not measured:
        return "No variant has answers to attribute questions about unseen products."
    _, variant, row = max(measured, key=lambda item: (item[0], item[1]))
    return f"{variant} answers {_of_questions(row)} about unseen products right."


def _tested_headline(test: Mapping[str, Any], comparison: Comparison) -> str:
    row = comparison.metric(test["variant"], "strict_accuracy", "unseen") or {}
    against = comparison.metric(test["baseline"], "strict_accuracy", "unseen") or {}
    return (
        f"{test['variant']} answers {_of_questions(row)} about unseen products right;"
        f" {test['baseline']}, on the same questions, {percent(against['value'])}"
        f" ({against['numerator']} of {against['denominator']})."
        f" The difference is {100 * test['difference']:+.1f} points"
        f" [{100 * test['low']:+.1f}, {100 * test['high']:+.1f}],"
        f" exact McNemar p (Holm) {p_value(test['p_holm'], sign=True)}."
    )


def _of_questions(row: Mapping[str, Any]) -> str:
    return (
        f"{percent(row['value'])} of the questions ({row['numerator']} of {row['denominator']},"
        f" 95% interval {percent(row['low'])} to {percent(row['high'])})"
    )


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; an en dash where there is none."""
    return "\u2013" if value is None else f"{100 * value:.1f}%"


def p_value(p: float, *, sign: bool = False) -> str:
    """A p-value: three decimals, "< 0.001" below that; with `sign`, "= 0.020"."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.3f}" if sign else f"{p:.3f}"


def quantity(value: Any) -> str:
    """A measured cost: thousands apart, three digits below 100; an en dash where unknown."""
    if value is None or isinstance(value, str | bool):
        return "\u2013" if value is None else str(value)
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def shown_metrics(comparison: Comparison) -> list[KeyMetric]:
    """The columns of the first table that were measured."""
    known = comparison.summary.drop_nulls("value")
    measured = set(known.select("metric", "subset").iter_rows())
    return [key for key in KEY_METRICS if (key.metric, key.subset) in measured]


def markdown_summary(comparison: Comparison) -> str:
    """Headline, key metrics and tests as Markdown (for Dagster metadata); all text is escaped."""
    keys = shown_metrics(comparison)
    metrics = [
        [variant, *(_cell(comparison.metric(variant, key.metric, key.subset)) for key in keys)]
        for variant in ordered_variants(comparison)
    ]
    parts = [_markdown(headline(comparison))]
    parts += [_markdown_table(["Variant", *(key.label for key in keys)], metrics)]
    for against, tests in _tests(comparison).items():
        header = [
            "Variant",
            against,
            "Set",
            "Difference",
            "Only it right",
            f"Only {against.lower()}",
        ]
        parts += [_markdown_table([*header, "p (Holm)"], map(_test_cells, tests))]
    parts += [_markdown(line) for line in dominated(comparison)]
    parts += [_markdown(f"Missing: {line}.") for line in missing(comparison)]
    return "\n\n".join(parts)


def _tests(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tests by what is tested against, where there are any."""
    frames = {"Baseline": comparison.tests, "Champion": comparison.champion_tests}
    return {
        name: frame.sort("variant", "subset").to_dicts()
        for name, frame in frames.items()
        if frame.height
    }


def dominated(comparison: Comparison) -> list[str]:
    """A sentence a cost: which variants another one beats for no more."""
    rows = comparison.pareto.drop_nulls("dominated_by")
    return [
        f"Dominated in {COSTS[str(cost)]}: "
        + ", ".join(f"{row['variant']} (by {row['dominated_by']})" for row in own.to_dicts())
        + "."
        for (cost,), own in rows.group_by("cost", maintain_order=True)
    ]


def _test_cells(test: Mapping[str, Any]) -> list[str]:
    interval = f"[{100 * test['low']:+.1f}, {100 * test['high']:+.1f}]"
    return [
        test["variant"],
        test["baseline"],
        test["subset"],
        f"{100 * test['difference']:+.1f} points {interval}",
        str(test["only_variant"]),
        str(test["only_baseline"]),
        p_value(test["p_holm"]),
    ]


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "\u2013"
    if row["numerator"] is None:
        return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] (of {row['denominator']})"
    interval = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{percent(row['value'])} {interval} ({row['numerator']}/{row['denominator']})"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = ([c if c == "---" else _markdown(c) for c in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is: markup characters as entities, on one line."""
    shown = " ".join(text.split()).replace("&", "&amp;")
    entities = {mark: f"&#{ord(mark)};" for mark in "<>|`*_[]\\~"}
    return "".join(entities.get(character, character) for character in shown)


def print_report(comparison: Comparison, console: Console) -> None:
    """The headline, key metrics, tests and missing variants as tables in a terminal."""
    console.print(Text(headline(comparison), style="bold"))
    keys = shown_metrics(comparison)
    metrics = [
        [
            key.label,
            *(_cell(comparison.metric(v, key.metric, key.subset)) for v in _best(comparison)),
        ]
        for key in keys
    ]
    console.print(_table("Metrics (95% interval, counts)", ["", *_best(comparison)], metrics))
    for against, tests in _tests(comparison).items():
        title = f"Paired tests on strict correctness, against the {against.lower()}"
        header = ["Variant", against, "Set", "Difference", "Only it", "Only that", "p (Holm)"]
        console.print(_table(title, header, map(_test_cells, tests)))
    if comparison.costs.height:
        header = [name.replace("_", " ") for name in comparison.costs.columns]
        costs = [[quantity(value) for value in row] for row in comparison.costs.rows()]
        console.print(_table("Costs", header, costs))
    for line in dominated(comparison):
        console.print(Text(line))
    for line in missing(comparison):
        console.print(Text(f"Missing: {line}.", style="yellow"))


def missing(comparison: Comparison) -> list[str]:
    """What was asked for and could not be compared, a line a reason: most jobs may never be run."""
    return [f"{', '.join(names)} ({reason})" for reason, names in missing_by_reason(comparison)]


def missing_by_reason(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Reasons, each with the variants that it keeps out of the comparison."""
    by_reason = comparison.missing.group_by("reason", maintain_order=True).agg("variant")
    return list(by_reason.iter_rows())


def _best(comparison: Comparison) -> list[str]:
    return ordered_variants(comparison)[::-1]


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for name in header:
        # Text, not markup: names come from files and models.
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
