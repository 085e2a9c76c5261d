"""Thumbnails, as the asset `product_images` stores them, in a folder and in a bucket."""

from pathlib import Path

import polars as pl
import pytest

from retail_assistant.catalog.images.decoding import decode_image
from retail_assistant.catalog.images.manifest import image_table, wanted_images
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import (
    RECEIPT_SCHEMA,
    Receipt,
    image_name,
    thumbnail_name,
)
from retail_assistant.objects import ObjectStore
from retail_assistant.serving.page.pictures import ASSET, Pictures, pictures_of
from retail_assistant.settings import Settings
from retail_assistant.storage import TableStore, file_sha256
from retail_assistant_tests.catalog.images.server import jpeg

SIDE = 64


@pytest.fixture(params=["folder", "bucket"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    if request.param == "folder":
        return Settings(storage_uri=str(tmp_path / "var"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_emulator"))
    return Settings(storage_uri=str(tmp_path / "var"), object_uri=f"gs://shop/{tmp_path.name}")


def stored(store: ObjectStore, url: str, data: bytes, folder: Path) -> Receipt:
    """Store a picture with its thumbnail, as a worker does."""
    file = folder / "picture"
    file.write_bytes(data)
    sha256 = file_sha256(file)
    image = decode_image(data, ImagePolicy(thumbnail_side=SIDE))
    store.put(image_name(sha256, image.type), data)
    store.put(thumbnail_name(sha256, SIDE), image.thumbnail)
    return Receipt(
        url=url, status="stored", sha256=sha256, type=image.type, run="r", limits="l",
        size=len(data), width=image.width, height=image.height, attempts=1,
    )  # fmt: skip


def made(settings: Settings, urls: dict[str, list[str]], receipts: list[Receipt]) -> None:
    """Make the asset's table, its own way."""
    products = pl.DataFrame(
        {"product_id": list(urls), "image_urls": list(urls.values())},
        schema={"product_id": pl.String, "image_urls": pl.List(pl.String)},
    )
    rows = pl.DataFrame([receipt.model_dump() for receipt in receipts], schema=RECEIPT_SCHEMA)
    store = ObjectStore(settings.object_store_uri)
    table = image_table(wanted_images(products.lazy()), rows, store, "all", SIDE)
    TableStore(settings.storage).write(table, ASSET)


def content(pictures: Pictures, product_id: str) -> bytes | None:
    found = pictures(product_id)
    return found.read_bytes() if isinstance(found, Path) else found


def test_a_product_shows_its_first_good_picture(settings: Settings, tmp_path: Path) -> None:
    pictures = pictures_of(settings)
    assert "shirt" not in pictures
    assert pictures("shirt") is None, "the asset was never made"
    store = ObjectStore(settings.object_store_uri)
    gone = Receipt(url="u1", status="not_found", run="r", limits="l")
    second = stored(store, "u2", jpeg(1), tmp_path)
    third = stored(store, "u3", jpeg(2), tmp_path)
    urls = {"shirt": ["u1", "u2", "u3"], "coat": ["u1"], "hat": ["u3"]}
    made(settings, urls, [gone, second, third])
    assert [one in pictures for one in ("shirt", "coat", "hat", "none")] == [1, 0, 1, 0]
    assert second.sha256 is not None
    assert content(pictures, "shirt") == store.get(thumbnail_name(second.sha256, SIDE))
    assert pictures("coat") is None
    made(settings, {"shirt": ["u3"]}, [third])  # while the server runs
    assert third.sha256 is not None
    assert content(pictures, "shirt") == store.get(thumbnail_name(third.sha256, SIDE))
    assert "hat" not in pictures
    store.delete([thumbnail_name(third.sha256, SIDE)])
    assert pictures("shirt") is None


@pytest.mark.parametrize(
    "product_id", ["", ".", "..", "../shirt", "/etc/passwd", "shirt/../shirt", "shirt\x00"]
)
@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_an_id_never_becomes_a_path(product_id: str, tmp_path: Path) -> None:
    settings = Settings(storage_uri=str(tmp_path / "var"))
    receipt = stored(ObjectStore(settings.object_store_uri), "u", jpeg(3), tmp_path)
    made(settings, {"shirt": ["u"]}, [receipt])
    pictures = pictures_of(settings)
    assert pictures("shirt") is not None
    assert pictures(product_id) is None


@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_an_address_that_is_no_thumbnail_is_not_followed(tmp_path: Path) -> None:
    settings = Settings(storage_uri=str(tmp_path / "var"))
    store = ObjectStore(settings.object_store_uri)
    receipt = stored(store, "u", jpeg(3), tmp_path)
    made(settings, {"shirt": ["u"], "coat": ["u"]}, [receipt])
    tables = TableStore(settings.storage)
    planted = pl.when(product_id="shirt").then(pl.lit("/etc/passwd")).otherwise("thumbnail_uri")
    tables.write(tables.ref(ASSET).read().with_columns(thumbnail_uri=planted), ASSET)
    pictures = pictures_of(settings)
    assert pictures("shirt") is None
    assert pictures("coat") is not None
