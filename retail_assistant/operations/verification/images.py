"""Product images: each is named by its content, and the asset's table names those that are had."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath

import polars as pl

from retail_assistant.objects import ObjectStore, ObjectStoreError
from retail_assistant.operations.verification.findings import Finding
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, TableStore

ASSET = "product_images"
AGAIN = "remove it, then materialize product_images again"
FETCH = "materialize product_images again"
READ_AT_ONCE = 8
_OBJECT = re.compile(r"(?:images|thumbnails/\d+px)/[0-9a-f]{2}/[0-9a-f]{64}\.\w+$")
_JPEG_ENDS = (b"\xff\xd8", b"\xff\xd9")


def image_findings(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    """Images and thumbnails that are missing or altered; `quick`: they are not read.

    An image is named by its SHA-256. A thumbnail is named by the image that it is of: it is whole
    if it begins and ends as a JPEG does.
    """
    store = ObjectStore(settings.object_store_uri)
    try:
        there = store.sizes("images") | store.sizes("thumbnails")
    except ObjectStoreError as error:
        yield Finding(path="objects", problem="unreadable", detail=str(error), remedy="try again")
        return
    for name in sorted(_named(settings) - there.keys()):
        detail = f"the table of {ASSET} names it"
        yield Finding(path=f"objects/{name}", problem="missing", detail=detail, remedy=FETCH)
    if not quick:
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            for found in pool.map(partial(_altered, store), there):
                yield from found


def _named(settings: Settings) -> set[str]:
    """The objects that the asset's table names."""
    try:
        table = TableStore(settings.storage).ref(ASSET).read()
    except StorageError:
        # Never made; or damaged, which is told of tables.
        return set()
    uris = pl.concat([table["object_uri"], table["thumbnail_uri"]]).drop_nulls().unique()
    # The end of the address: the store may have moved since.
    return {match[0] for uri in uris if (match := _OBJECT.search(uri))}


def _altered(store: ObjectStore, name: str) -> list[Finding]:
    try:
        content = store.get(name)
    except ObjectStoreError as error:
        detail = str(error)
        return [Finding(path=f"objects/{name}", problem="unreadable", detail=detail, remedy=AGAIN)]
    if content is None or _is_whole(name, content):
        return []
    detail = "its content is not what its name says"
    return [Finding(path=f"objects/{name}", problem="altered", detail=detail, remedy=AGAIN)]


def _is_whole(name: str, content: bytes) -> bool:
    if name.startswith("thumbnails/"):
        return (content[:2], content[-2:]) == _JPEG_ENDS
    return hashlib.sha256(content).hexdigest() == PurePosixPath(name).stem
