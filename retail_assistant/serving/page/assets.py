"""The files that the page loads, all of them from this package."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from retail_assistant.storage import file_sha256

_FOLDER = Path(__file__).parent / "static"
STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendor/htmx-4.0.1.min.js": "text/javascript",
    "vendor/hx-sse-4.0.1.min.js": "text/javascript",
}
"""What is served, and as what; nothing else is, whatever name is asked for."""


class Asset(NamedTuple):
    """A file and its type."""

    path: Path
    media_type: str


def asset(name: str) -> Asset | None:
    """The file of this name, if it is one that is served."""
    return Asset(_FOLDER / name, STATIC[name]) if name in STATIC else None


@cache
def asset_query(name: str) -> str:
    """What follows a file's name in its address, so that a new content has a new address."""
    return f"{name}?v={file_sha256(_FOLDER / name)[:12]}"
