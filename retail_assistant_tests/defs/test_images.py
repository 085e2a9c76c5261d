"""The asset `product_images` in Dagster, with a real server and a real Ray."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.defs.images import (
    every_image_is_accounted_for,
    most_images_were_fetched,
    product_images,
)
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.resources import Launcher
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.catalog.images.conftest import ImageServer, image_server, ray_address

__all__ = ["image_server", "ray_address"]
pytestmark = pytest.mark.slow


@pytest.fixture
def shop(
    image_server: ImageServer, ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A storage folder, and a profile that allows asking the test's server."""
    get_settings.cache_clear()
    images = {
        "ports": [image_server.port],
        "allowed_private_networks": ["127.0.0.0/8"],
        "attempts": 1,
    }
    profile = tmp_path / "shop.yaml"
    profile.write_text(yaml.safe_dump({"images": images}))
    monkeypatch.setenv("RETAIL_CATALOG_PROFILE", str(profile))
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    yield tmp_path / "var"
    get_settings.cache_clear()


def materialize(urls: list[list[str]], storage: Path) -> dg.ExecuteInProcessResult:
    products = pl.DataFrame(
        {"product_id": [f"p{number}" for number in range(len(urls))], "image_urls": urls}
    )
    TableStore(storage).write(products, "assortment")
    return dg.materialize(
        [
            product_images,
            dg.AssetSpec("assortment"),
            every_image_is_accounted_for,
            most_images_were_fetched,
        ],
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        raise_on_error=False,
    )


def version(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.asset_materializations_for_node("product_images")
    return event.tags["dagster/data_version"]


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_images_come_with_their_counts_and_are_not_fetched_twice(
    image_server: ImageServer, shop: Path
) -> None:
    good = [[image_server.url(f"good/{number}.jpg")] for number in range(8)]
    failing = [[image_server.url("status/404"), image_server.url("html")]]
    first = materialize(good + failing, shop)
    assert first.success
    (event,) = first.asset_materializations_for_node("product_images")
    counts = {row.data["status"]: row.data["images"] for row in event.metadata["by_status"].records}
    assert counts == {"stored": "8", "not_found": "1", "wrong_type": "1"}
    assert event.metadata["failed_share"].value == pytest.approx(0.2)
    assert event.metadata["dagster/row_count"].value == 10
    assert checks(first) == {
        "every_image_is_accounted_for": True,
        "most_images_were_fetched": True,
    }
    folder = shop / "objects" / "images"
    assert sum(path.is_file() for path in folder.rglob("*")) == 8

    again = materialize(good + failing, shop)
    assert version(again) == version(first)
    hits = image_server.hits()
    assert {hits[f"/good/{number}.jpg"] for number in range(8)} == {1}
    assert hits["/status/404"] == 2, "failures are asked again when the asset is materialized"

    more = materialize([*good, [image_server.url("good/8.jpg")]], shop)
    assert more.success
    assert version(more) != version(first)
    hits = image_server.hits()
    assert {hits[f"/good/{number}.jpg"] for number in range(9)} == {1}

    # Nothing failed in the last run, so from now on the same inputs are the same artefact.
    for _ in range(2):
        unchanged = materialize([*good, [image_server.url("good/8.jpg")]], shop)
        assert version(unchanged) == version(more)
    artefacts = shop / "artefacts" / "product_images"
    assert len([path for path in artefacts.iterdir() if path.is_dir()]) == 4


def test_many_failures_raise_a_warning_and_no_row_is_lost(
    image_server: ImageServer, shop: Path
) -> None:
    result = materialize([[image_server.url("status/403"), image_server.url("good/1.jpg")]], shop)
    assert result.success
    assert checks(result) == {
        "every_image_is_accounted_for": True,
        "most_images_were_fetched": False,
    }


def test_a_manifest_that_lost_a_row_fails_its_check(image_server: ImageServer, shop: Path) -> None:
    materialize([[image_server.url("good/1.jpg"), image_server.url("good/2.jpg")]], shop)
    store = TableStore(shop)
    store.write(store.ref("product_images").read().head(1), "product_images")
    result = dg.materialize(
        [
            dg.AssetSpec("product_images"),
            dg.AssetSpec("assortment"),
            every_image_is_accounted_for,
        ],
        selection=dg.AssetSelection.checks(every_image_is_accounted_for),
        resources={"io_manager": StorageIOManager()},
        raise_on_error=False,
    )
    assert checks(result) == {"every_image_is_accounted_for": False}


def test_the_policy_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="thumbnail_side"):
        ImagePolicy(thumbnail_side=0)
    with pytest.raises(ValueError, match="not a valid IPv4 network"):
        ImagePolicy.model_validate({"allowed_private_networks": ["127.0.0.1/8"]})
