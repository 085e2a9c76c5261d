"""The catalog stage: a retailer's file becomes clean products and a search index."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from retail_assistant.catalog.assortment import (
    AssortmentPolicy,
    assortment_exclusions,
    select_assortment,
)
from retail_assistant.catalog.products import clean_catalog
from retail_assistant.catalog.source import catalog_version, read_catalog
from retail_assistant.defs.io_managers import preview, table_facts, table_result
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef

GROUP = "catalog"
OWNERS = ["team:catalog"]
MAX_NULL_BRANDS = 0.5


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "raw_catalog",
            description="The retailer's file at `RETAIL_CATALOG_URI`. It is not ours to change:"
            " its version is observed.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"csv"},
        )
    ]
)
def observed_catalog() -> Iterator[dg.ObserveResult]:
    """Look which version of the file is there."""
    uri = get_settings().catalog_uri
    yield dg.ObserveResult(
        asset_key="raw_catalog",
        data_version=dg.DataVersion(catalog_version(uri)),
        metadata={"uri": dg.MetadataValue.path(uri)},
    )


@dg.multi_asset(
    outs={
        "products": dg.AssetOut(
            dagster_type=pl.DataFrame,
            description="One clean row a product: names, brands, prices, category levels and"
            " attributes, ids instead of names as keys.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
        ),
        "rejected_products": dg.AssetOut(
            dagster_type=pl.DataFrame,
            description="Every row of the file that became no product, with its reason.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
        ),
    },
    deps=["raw_catalog"],
    group_name=GROUP,
    code_version="1",
)
def clean_products(context: dg.AssetExecutionContext) -> tuple[dg.Output, dg.Output]:
    """Read, parse and clean the catalog; lose no row silently."""
    cleaned = clean_catalog(read_catalog(get_settings().catalog_uri))
    context.log.info(
        f"{cleaned.rows_in} rows: {cleaned.products.height} products,"
        f" {cleaned.rejected.height} rejected"
    )
    reasons = cleaned.rejected["reason"].value_counts(sort=True)
    return (
        dg.Output(cleaned.products, **table_facts(cleaned.products, rows_in=cleaned.rows_in)),
        dg.Output(
            cleaned.rejected,
            output_name="rejected_products",
            **table_facts(cleaned.rejected, reasons=preview(reasons, rows=20)),
        ),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"polars", "parquet"}, code_version="1")
def assortment(products: pl.DataFrame) -> dg.MaterializeResult[pl.DataFrame]:
    """The products that the assistant is trained on: departments of interest, no rarities."""
    policy = AssortmentPolicy()
    excluded = assortment_exclusions(products, policy)
    return table_result(
        select_assortment(products, policy),
        policy=policy.model_dump(),
        excluded=preview(excluded["reason"].value_counts(sort=True), rows=20),
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"lancedb"}, code_version="1")
def catalog_index(
    context: dg.AssetExecutionContext, launcher: Launcher, assortment: TableRef
) -> dg.MaterializeResult[ArtefactRef]:
    """Hybrid search over the assortment, full text and MiniLM vectors: for grounding answers."""
    spec = LaunchSpec(
        name="catalog_index",
        module="retail_assistant.catalog.build_index",
        config={},
        inputs={"assortment": assortment.sha256},
        paths={"assortment": assortment.path},
        code_version="1",
        root=get_settings().storage,
    )
    return artefact_result(launcher.launch(context, spec))


@dg.asset_check(
    asset="products",
    additional_ins={"rejected": dg.AssetIn("rejected_products")},
    blocking=True,
)
def every_row_is_accounted_for(
    context: dg.AssetCheckExecutionContext, products: pl.DataFrame, rejected: pl.DataFrame
) -> dg.AssetCheckResult:
    """Each row of the file is a product or a rejected row, and none is both."""
    used = pl.concat([products["source_row"], rejected["source_row"]])
    rows_in = used.len()
    last_row = used.cast(pl.Int64).sort().to_list()[-1] if rows_in else 0
    return dg.AssetCheckResult(
        passed=used.n_unique() == rows_in == last_row,
        metadata={"products": products.height, "rejected": rejected.height, "last_row": last_row},
    )


@dg.asset_check(asset="products", blocking=True)
def product_ids_are_unique(products: pl.DataFrame) -> dg.AssetCheckResult:
    """Keys are ids: no two products share one."""
    repeated = products.height - products["product_id"].n_unique()
    return dg.AssetCheckResult(passed=repeated == 0, metadata={"repeated": repeated})


@dg.asset_check(asset="assortment")
def brands_are_known(assortment: pl.DataFrame) -> dg.AssetCheckResult:
    """Most products name their brand."""
    share = assortment["brand"].null_count() / max(1, assortment.height)
    return dg.AssetCheckResult(
        passed=share <= MAX_NULL_BRANDS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"without_brand": share, "allowed": MAX_NULL_BRANDS},
    )
