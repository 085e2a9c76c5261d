"""The products' images: fetched, checked, stored by content, with a row for each URL."""

import dagster as dg
import polars as pl

from retail_assistant.catalog.images.manifest import (
    ASKED_OF_THE_MOMENT,
    failed_share,
    failure_reasons,
    is_worth_another_run,
    status_counts,
    wanted_images,
)
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.profile import get_profile
from retail_assistant.defs.conditions import REFRESH_ONCE_MADE
from retail_assistant.defs.io_managers import frame_version, preview, table_result
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableRef, TableStore

ASSET = "product_images"
MODULE = "retail_assistant.catalog.images.fetch"


@dg.asset(
    group_name="catalog",
    owners=["team:catalog"],
    kinds={"ray", "pillow", "parquet"},
    code_version="1",
    deps=["catalog_profile"],
    automation_condition=REFRESH_ONCE_MADE,
)
def product_images(
    context: dg.AssetExecutionContext, launcher: Launcher, assortment: TableRef
) -> dg.MaterializeResult[pl.DataFrame]:
    """The assortment's images, one row a URL: where it is stored, or why it is not.

    What is stored already is not fetched again. Failed URLs are asked again each time the asset
    is materialized, if the policy says so.
    """
    policy = get_profile().images
    settings = get_settings()
    again = {"again": context.run_id} if _failed_before(policy) else {}
    spec = LaunchSpec(
        name=ASSET,
        module=MODULE,
        config={"policy": policy.model_dump(mode="json"), "store": settings.object_store_uri},
        inputs={"assortment": assortment.sha256, **again},
        paths={"assortment": assortment.path},
        code_version="1",
        root=settings.storage,
    )
    ref = launcher.launch(context, spec)
    manifest, table = ref.manifest(), pl.read_parquet(ref.path("images"))
    counts = status_counts(table)
    context.log.info(", ".join(f"{images} {status}" for status, images in counts.iter_rows()))
    return table_result(
        table,
        version=frame_version(table.drop(ASKED_OF_THE_MOMENT)),
        by_status=preview(counts, rows=counts.height),
        failures=preview(failure_reasons(table), rows=20),
        failed_share=failed_share(table),
        stored_in=dg.MetadataValue.path(settings.object_store_uri),
        work=dg.MetadataValue.json(manifest.metrics),
    )


def _failed_before(policy: ImagePolicy) -> bool:
    """Whether the last manifest has failures, so that the same inputs are worth another run."""
    try:
        table = TableStore(get_settings().storage).ref(ASSET).read()
    except StorageError:
        return False
    return is_worth_another_run(table, retry_failed=policy.retry_failed)


@dg.asset_check(asset=product_images, additional_ins={"assortment": dg.AssetIn()}, blocking=True)
def every_image_is_accounted_for(
    product_images: pl.DataFrame, assortment: pl.LazyFrame
) -> dg.AssetCheckResult:
    """Each image URL of each product has one row, and what is stored has an address."""
    wanted = wanted_images(assortment)
    missing = wanted.join(product_images, on=["product_id", "position", "url"], how="anti").height
    addressed = product_images["object_uri"].is_not_null() == (product_images["status"] == "stored")
    return dg.AssetCheckResult(
        passed=missing == 0 and wanted.height == product_images.height and addressed.all(),
        metadata={
            "urls_in_assortment": wanted.height,
            "rows": product_images.height,
            "missing": missing,
        },
    )


@dg.asset_check(asset=product_images)
def most_images_were_fetched(product_images: pl.DataFrame) -> dg.AssetCheckResult:
    """No more of the wanted images failed than the policy accepts."""
    share, allowed = failed_share(product_images), get_profile().images.warn_failed_share
    return dg.AssetCheckResult(
        passed=share <= allowed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"failed_share": share, "allowed": allowed},
    )
