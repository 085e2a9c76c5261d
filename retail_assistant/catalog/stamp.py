"""A cheap look at the catalog file: may it have changed since the last look?"""

import json
import time
from pathlib import Path

from retail_assistant.catalog.source import catalog_state

SETTLED_SECONDS = 5.0
"""A file written to more recently may still be copied: it is looked at again later."""

_TELLING = ("generation", "etag", "ETag", "LastModified", "mtime", "size", "ino")


def catalog_stamp(uri: str, settled_seconds: float = SETTLED_SECONDS) -> str | None:
    """Return a text that differs whenever the file at ``uri`` may have changed; None while it does.

    The file is not read: a local one tells its modification time, size and inode, an object in a
    bucket its generation. The content may be the same under two stamps, so a new stamp is a reason
    to observe the catalog, not to clean it. Raises CatalogError where there is no file.
    """
    state = catalog_state(uri)
    written = state.get("mtime")
    if isinstance(written, int | float) and _is_fresh(written, settled_seconds):
        return None
    return json.dumps({name: str(state[name]) for name in _TELLING if name in state})


def folder_stamp(folder: Path, settled_seconds: float = SETTLED_SECONDS) -> str | None:
    """As `catalog_stamp`, of all that is in a local folder."""
    found = {
        str(path.relative_to(folder)): (stat.st_mtime, stat.st_size)
        for path in sorted(folder.rglob("*"))
        if (stat := path.stat(follow_symlinks=False))
    }
    if any(_is_fresh(written, settled_seconds) for written, _ in found.values()):
        return None
    return json.dumps(found)


def _is_fresh(written: float, settled_seconds: float) -> bool:
    """Whether it was written just now; a time in the future comes from another clock."""
    return 0 <= time.time() - written < settled_seconds
