"""`retail-assistant keys`: who may call the API."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from retail_assistant.settings import get_settings

keys_app = typer.Typer(no_args_is_help=True, help="Keys of the API: make, list, revoke.")
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

Name = Annotated[str, typer.Argument(help="Who it is for: letters, digits, _ . and -")]


@keys_app.command()
def add(name: Name) -> None:
    """Make a key and print it; it is kept as a hash only, so it cannot be shown again."""
    keys = _keys()
    sys.stdout.write(keys.add(name) + "\n")
    errors.print(
        f"This is the key of {name}; keep it: it is not shown again."
        " Clients send it as Authorization: Bearer …",
        highlight=False,
        soft_wrap=True,
    )


@keys_app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Every key that was made, and since when it opens nothing any more."""
    keys = [one.model_dump(mode="json", exclude={"sha256"}) for one in _keys().all()]
    if as_json:
        sys.stdout.write(json.dumps(keys, indent=1) + "\n")
        return
    table = Table("name", "made (UTC)", "revoked (UTC)")
    for key in keys:
        table.add_row(key["name"], _minute(key["created"]), _minute(key["revoked"]))
    console.print(table)


@keys_app.command()
def revoke(name: Name) -> None:
    """Let a key open nothing any more, from the next request on; no server needs a restart."""
    _keys().revoke(name)
    console.print(f"{name} opens nothing any more", highlight=False)


def _keys() -> Any:
    from retail_assistant.serving.api.keys import ApiKeys

    return ApiKeys(get_settings().storage)


def _minute(moment: str | None) -> str:
    return (moment or "")[:16].replace("T", " ")
