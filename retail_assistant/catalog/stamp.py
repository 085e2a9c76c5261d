"""A cheap look at the catalog file: may it have changed since the last look?"""

import json
import time

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
    # A time in the future comes from another clock; waiting for it could take for ever.
    if isinstance(written, int | float) and 0 <= time.time() - written < settled_seconds:
        return None
    return json.dumps({name: str(state[name]) for name in _TELLING if name in state})
