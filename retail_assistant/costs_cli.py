"""`retail-assistant costs`: what finished work took, and what it cost."""

import json
import sys
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retail_assistant.operations.costs import By, Total, Work, all_work, of_month, total, totals
from retail_assistant.settings import Settings, get_settings

console = Console(width=None if sys.stdout.isatty() else 140)


def costs(
    month: Annotated[
        str | None, typer.Option(help="Finished in this month (UTC), such as 2026-11.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Sums by asset, job or study; default: a row a run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """What finished work took: time, device hours, energy, and its cost where prices are set.

    Prices are RETAIL_PRICE_PER_DEVICE_HOUR and RETAIL_PRICE_PER_KWH, of now. `?` is not known. Work
    that failed leaves no manifest, so it is in no row.
    """
    settings = get_settings()
    work = of_month(all_work(settings.storage), month)
    groups = _groups(by)
    sums = totals(work, groups, settings) if groups else []
    whole = total("all", work, settings)
    if as_json:
        sys.stdout.write(json.dumps(_document(work, sums, whole, settings), indent=1) + "\n")
        return
    console.print(_table_of_sums(sums, whole, settings) if groups else _table(work, settings))
    if not groups:
        console.print(_words(whole, settings), highlight=False)
    if whole.unknown:
        console.print(f"not known, so in no sum: {whole.unknown}", highlight=False)


def _groups(by: str | None) -> By | None:
    allowed: dict[str, By] = {one: one for one in get_args(By)}
    if by is not None and by not in allowed:
        raise ValueError(f"--by {by}; allowed: {', '.join(allowed)}")
    return allowed[by] if by else None


def _document(work: list[Work], sums: list[Total], whole: Total, settings: Settings) -> dict:
    rows = [
        {
            **one.model_dump(mode="json"),
            "device_hours": one.device_hours,
            "cost": one.cost(settings),
        }
        for one in work
    ]
    return {
        "currency": settings.currency,
        "price_per_device_hour": settings.price_per_device_hour,
        "price_per_kwh": settings.price_per_kwh,
        "work": rows,
        "totals": [one.model_dump() for one in sums],
        "all": whole.model_dump(),
    }


def _table(work: list[Work], settings: Settings) -> Table:
    table = Table("finished (UTC)", "asset", "job", "study", *_headings(settings))
    for one in work:
        table.add_row(
            f"{one.finished:%Y-%m-%d %H:%M}",
            one.asset,
            escape(one.job or ""),
            escape(one.study or ""),
            *_cells(one.seconds, one.device_hours, one.energy_kwh, one.cost(settings)),
        )
    return table


def _table_of_sums(sums: list[Total], whole: Total, settings: Settings) -> Table:
    table = Table("", "runs", *_headings(settings), "not known")
    for one in [*sums, whole]:
        cells = _cells(one.seconds, one.device_hours, one.energy_kwh, one.cost)
        table.add_row(escape(one.name), str(one.pieces), *cells, one.unknown)
    return table


def _headings(settings: Settings) -> list[str]:
    return ["time", "device hours", "kWh", settings.currency]


def _cells(
    seconds: float, hours: float | None, energy: float | None, cost: float | None
) -> list[str]:
    minutes, left = divmod(round(seconds), 60)
    return [
        f"{minutes // 60}:{minutes % 60:02}:{left:02}",
        _number(hours, 3),
        _number(energy, 4),
        _number(cost, 2),
    ]


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _words(whole: Total, settings: Settings) -> str:
    time, hours, energy, cost = _cells(
        whole.seconds, whole.device_hours, whole.energy_kwh, whole.cost
    )
    return (
        f"{whole.pieces} runs: {time}, {hours} device hours, {energy} kWh,"
        f" {cost} {settings.currency}"
    )
