"""A bucket as a folder that can be looked through: every name, size and date is there.

Documents that may refer to something, and tables of images, have their content. All else are files
of the right size that take no room, for nobody reads them. So one collector does for both.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retail_assistant.operations.garbage.references import (
    CHAMPION_FILE,
    IMAGES_ASSET,
    VOCABULARIES,
)
from retail_assistant.storage.bucket import Bucket, bucket_of

LOOKED_AT = ("artefacts", "tables", "champions", "approvals", "objects")
_DOCUMENT = ".json"
_OBJECTS = "objects"


@contextmanager
def seen(root: Path) -> Iterator[Path]:
    """A storage folder as it is for all machines: itself, or for so long a copy of a bucket's.

    Raises:
        BucketError: the bucket cannot be read.
    """
    bucket = bucket_of(root)
    if bucket is None:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="retail-seen-") as name:
        folder = Path(name)
        _lay_out(bucket, folder)
        yield folder


def _lay_out(bucket: Bucket, folder: Path) -> None:
    found = {
        f"{top}/{name}": blob
        for top in LOOKED_AT
        for name, blob in bucket.below(bucket.root / top).items()
    }
    for name, blob in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(0 if _is_read(name) else blob.size)
    bucket.read_all([(blob, folder / name) for name, blob in found.items() if _is_read(name)])
    _, champion = bucket.current(bucket.root / CHAMPION_FILE)
    if champion is not None:
        (folder / CHAMPION_FILE).write_text(champion)
    _date(folder, found)


def _is_read(name: str) -> bool:
    top, *_, last = name.split("/")
    if top == "tables" and name.split("/")[1] == IMAGES_ASSET:
        return True
    return top != _OBJECTS and last.endswith(_DOCUMENT) and last not in VOCABULARIES


def _date(folder: Path, found: dict[str, Any]) -> None:
    """Files are as old as their objects, folders as the newest of what is in them."""
    for name, blob in found.items():
        written = blob.updated.timestamp()
        os.utime(folder / name, (written, written))
    for parent, folders, names in os.walk(folder, topdown=False):
        inside = [(Path(parent) / name).lstat().st_mtime for name in [*folders, *names]]
        newest = max(inside, default=0.0)
        os.utime(parent, (newest, newest))
