"""Journeys as tables: every check of every turn, shares with intervals, and what went wrong.

CHECKS, a row a check of a turn; a journey that was skipped has one row, without a turn. A journey
passes where all its checks do.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from retail_assistant.evaluation.statistics import wilson_interval
from retail_assistant.serving.journeys.runner import Played
from retail_assistant.serving.journeys.scoring import score
from retail_assistant.serving.journeys.stock import Stock

CHECKS_SCHEMA: dict[str, Any] = {
    "journey": pl.String,
    "kind": pl.String,
    "hostile": pl.Boolean,
    "skipped": pl.String,
    "turn": pl.Int64,
    "check": pl.String,
    "passed": pl.Boolean,
    "wrong": pl.String,
    "shopper": pl.String,
    "answer": pl.String,
    "shown": pl.List(pl.String),
    "intent": pl.String,
    "declined": pl.String,
    "written_by": pl.String,
    "first_seconds": pl.Float64,
    "seconds": pl.Float64,
}
SUMMARY_SCHEMA: dict[str, Any] = {
    "of": pl.String,
    "name": pl.String,
    "passed": pl.Int64,
    "all": pl.Int64,
    "share": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
_SHOPPER_CHARACTERS = 500


def check_rows(played: Sequence[Played], stock: Stock) -> pl.DataFrame:
    """CHECKS of journeys that were played."""
    rows = [row for one in played for row in _rows(one, stock)]
    return pl.DataFrame(rows, schema=CHECKS_SCHEMA)


def _rows(played: Played, stock: Stock) -> list[dict[str, Any]]:
    of_journey = {
        "journey": played.journey.id,
        "kind": played.kind,
        "hostile": played.journey.hostile,
    }
    if played.skipped:
        return [{**of_journey, "skipped": played.skipped}]
    rows = []
    for number, checks in enumerate(score(played, stock), start=1):
        spoken = played.turns[number - 1]
        result = spoken.result
        of_turn = {
            "turn": number,
            "shopper": spoken.shopper[:_SHOPPER_CHARACTERS],
            "answer": spoken.answer,
            "shown": [card.name for card in result.products] if result else [],
            "intent": result.intent if result else None,
            "declined": result.declined if result else None,
            "written_by": result.written_by if result else None,
            "first_seconds": spoken.first_seconds,
            "seconds": spoken.seconds,
        }
        rows += [
            {
                **of_journey,
                **of_turn,
                "check": one.name,
                "passed": not one.wrong,
                "wrong": one.wrong or None,
            }
            for one in checks
        ]
    return rows


def journey_rows(checks: pl.DataFrame) -> pl.DataFrame:
    """A row a journey that was played: journey, kind, hostile, passed, turns, failed (checks)."""
    played = checks.filter(pl.col("turn").is_not_null())
    return (
        played.group_by("journey", "kind", "hostile", maintain_order=True)
        .agg(
            passed=pl.col("passed").all(),
            turns=pl.col("turn").n_unique(),
            failed=pl.col("check").filter(~pl.col("passed")).unique(maintain_order=True),
        )
        .with_columns(pl.col("failed").list.join(", "))
    )


def skipped_rows(checks: pl.DataFrame) -> pl.DataFrame:
    """Journeys that this catalog cannot host: journey, kind, skipped (why)."""
    return checks.filter(pl.col("skipped").is_not_null()).select("journey", "kind", "skipped")


def summarize_journeys(checks: pl.DataFrame) -> pl.DataFrame:
    """SUMMARY: journeys in all, journeys by kind, checks by name: passed of all, 95% (Wilson).

    Journeys are the trials of the first two. The turns of a journey depend on one another, so the
    intervals of the checks are somewhat too narrow.
    """
    journeys = journey_rows(checks)
    played = checks.filter(pl.col("turn").is_not_null())
    rows = [_share("journeys", "all", journeys["passed"])] if journeys.height else []
    for of, frame, column in (("kind", journeys, "kind"), ("check", played, "check")):
        for (name,), own in frame.group_by(column, maintain_order=True):
            rows.append(_share(of, str(name), own["passed"]))
    order = pl.col("of").replace_strict({"journeys": 0, "kind": 1, "check": 2})
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA).sort(order, "name")


def _share(of: str, name: str, passed: pl.Series) -> dict[str, Any]:
    right, trials = int(passed.sum()), len(passed)
    low, high = wilson_interval(right / trials, trials)
    return {
        "of": of,
        "name": name,
        "passed": right,
        "all": trials,
        "share": right / trials,
        "low": low,
        "high": high,
    }


def failures(checks: pl.DataFrame) -> pl.DataFrame:
    """Every failed check with what was said and shown."""
    told = ("turn", "check", "wrong", "shopper", "answer", "shown", "intent", "declined")
    return checks.filter(~pl.col("passed")).select(
        "journey", "kind", "hostile", *told, "written_by"
    )


def latencies(checks: pl.DataFrame) -> dict[str, float]:
    """Seconds to the first piece and to the end of a turn: median and 95th percentile."""
    turns = checks.filter(pl.col("turn").is_not_null()).unique(["journey", "turn"])
    return {
        f"{name}_{label}": round(float(turns[name].quantile(share) or 0.0), 3)
        for name in ("first_seconds", "seconds")
        for label, share in (("p50", 0.5), ("p95", 0.95))
        if turns.height
    }


def headline(checks: pl.DataFrame) -> str:
    """How many journeys passed, and how many were skipped."""
    journeys, skipped = journey_rows(checks), skipped_rows(checks).height
    right = int(journeys["passed"].sum())
    hostile = journeys.filter("hostile")
    return (
        f"{right} of {journeys.height} journeys passed ({skipped} skipped);"
        f" hostile: {int(hostile['passed'].sum())} of {hostile.height}"
    )


def kind_bars(summary: pl.DataFrame) -> str:
    """Share of journeys that pass, with its interval, by kind, as markdown."""
    from retail_assistant.catalog.pictures import as_markdown, axes

    figure, plot = axes()
    kinds = summary.filter(of="kind").sort("name", descending=True)
    share = kinds["share"]
    spread = [
        (share - kinds["low"]).clip(0).to_list(),
        (kinds["high"] - share).clip(0).to_list(),
    ]
    plot.barh(kinds["name"].to_list(), share.to_list(), xerr=spread, capsize=3)
    plot.set(xlabel="journeys that pass", xlim=(0, 1.02))
    return as_markdown(figure, "journeys that pass, by kind")
