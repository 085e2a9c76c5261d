"""Thumbnails of products, from what the asset `product_images` stored."""

import re
from pathlib import Path

import polars as pl

from retail_assistant.objects import GCS, ObjectStore
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, TableRef, TableStore

ASSET = "product_images"
MEDIA_TYPE = "image/jpeg"
"""Of every thumbnail (`catalog.images.receipts.thumbnail_name`)."""

Picture = Path | bytes
"""A file of this machine, or an object's content."""

_THUMBNAIL = re.compile(r"thumbnails/\d+px/[0-9a-f]{2}/[0-9a-f]{64}\.jpg$")


class Pictures:
    """Each product's first good picture, by product id; follows the asset as it is made anew.

    An id is only ever looked up among those of the table, and addresses follow from hashes, so
    nothing that a client sends becomes part of a path. Safe to use from several threads.
    """

    def __init__(self, tables: TableStore, objects: ObjectStore) -> None:
        self._tables, self._objects = tables, objects
        self._names: tuple[str, dict[str, str]] = ("", {})

    def __contains__(self, product_id: object) -> bool:
        return product_id in self._current()

    def __call__(self, product_id: str) -> Picture | None:
        """A product's thumbnail, or None where it has none.

        Raises:
            ObjectStoreError: the store cannot be read.
        """
        name = self._current().get(product_id)
        if name is None:
            return None
        if self._objects.uri.startswith(GCS):
            return self._objects.get(name)
        path = Path(self._objects.uri_of(name))
        return path if path.is_file() else None

    def _current(self) -> dict[str, str]:
        """Product id -> name of its thumbnail's object."""
        try:
            ref = self._tables.ref(ASSET)
            if self._names[0] != ref.sha256:
                self._names = (ref.sha256, _thumbnails(ref))
        except StorageError:
            return {}  # never made, or just being replaced: a page without pictures is a page
        return self._names[1]


def pictures_of(settings: Settings) -> Pictures:
    """The pictures of the storage and object store that the settings name."""
    return Pictures(TableStore(settings.storage), ObjectStore(settings.object_store_uri))


def _thumbnails(ref: TableRef) -> dict[str, str]:
    first = (
        ref.scan()
        .filter(pl.col("thumbnail_uri").is_not_null())
        .sort("product_id", "position")
        .unique("product_id", keep="first", maintain_order=True)
        .select("product_id", "thumbnail_uri")
        .collect()
    )
    # The end of the address: the store may have moved since.
    found = ((product_id, _THUMBNAIL.search(uri)) for product_id, uri in first.iter_rows())
    return {product_id: match[0] for product_id, match in found if match is not None}
