"""The catalog stage: a retailer's file becomes clean products and a search index."""

import time
from collections.abc import Iterator

import dagster as dg
import polars as pl

from retail_assistant.catalog.assortment import select_assortment
from retail_assistant.catalog.clean import Progress, clean_catalog, read_summary
from retail_assistant.catalog.embedding import EMBEDDING_MODEL, EMBEDDING_VERSION
from retail_assistant.catalog.lineage import duplicate_sources, product_sources, same_columns
from retail_assistant.catalog.near_duplicates import write_near_duplicates
from retail_assistant.catalog.overview import (
    assortment_overview,
    empty_columns,
    missing_values,
    products_overview,
    rejected_overview,
)
from retail_assistant.catalog.profile import get_profile
from retail_assistant.catalog.source import catalog_version
from retail_assistant.defs.conditions import REFRESH
from retail_assistant.defs.io_managers import (
    column_lineage,
    frame_version,
    preview,
    shown,
    stored_facts,
    table_result,
)
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore, fingerprint

GROUP = "catalog"
OWNERS = ["team:catalog"]
MAX_NULL_BRANDS = 0.5
SECONDS_BETWEEN_LINES = 5.0


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "raw_catalog",
            description="The retailer's file at `RETAIL_CATALOG_URI`. It is not ours to change:"
            " its version is observed.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"csv"},
        ),
        dg.AssetSpec(
            "catalog_profile",
            description="The retailer's profile at `RETAIL_CATALOG_PROFILE`: which column holds"
            " what, which products are of interest, what a refresh may change.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"yaml"},
        ),
    ]
)
def observed_catalog() -> Iterator[dg.ObserveResult]:
    """Look which version of the file is there, and of its profile."""
    settings = get_settings()
    yield dg.ObserveResult(
        asset_key="raw_catalog",
        data_version=dg.DataVersion(catalog_version(settings.catalog_uri)),
        metadata={"uri": dg.MetadataValue.path(settings.catalog_uri)},
    )
    profile = get_profile().model_dump(mode="json")
    yield dg.ObserveResult(
        asset_key="catalog_profile",
        data_version=dg.DataVersion(fingerprint(profile)),
        metadata={
            "path": dg.MetadataValue.path(str(settings.catalog_profile)),
            "profile": dg.MetadataValue.json(profile),
        },
    )


@dg.multi_asset(
    outs={
        "products": dg.AssetOut(
            dagster_type=TableRef,
            description="One clean row a product: names, brands, prices, category levels and"
            " attributes, ids instead of names as keys.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            automation_condition=REFRESH,
        ),
        "rejected_products": dg.AssetOut(
            dagster_type=TableRef,
            description="Every row of the file that became no product, with its reason.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            automation_condition=REFRESH,
        ),
    },
    deps=["raw_catalog", "catalog_profile"],
    group_name=GROUP,
    code_version="2",
)
def clean_products(context: dg.AssetExecutionContext) -> tuple[dg.Output, dg.Output]:
    """Read, parse and clean the catalog, a block of rows at a time; lose no row silently."""
    store = TableStore(get_settings().storage)
    with store.staging("products") as folder:
        cleaned = clean_catalog(
            get_settings().catalog_uri, folder, get_profile(), _progress(context)
        )
        products = store.adopt(cleaned.products, "products")
        rejected = store.adopt(cleaned.rejected, "rejected_products")
    summary = cleaned.summary
    context.log.info(
        f"{summary.rows_in} rows: {summary.products} products, {summary.rejected} rejected"
    )
    return (
        dg.Output(
            products,
            **stored_facts(
                products,
                version=summary.version,
                **shown(products_overview(products.scan())),
                **column_lineage(
                    "raw_catalog", product_sources(get_profile().columns, summary.columns)
                ),
            ),
        ),
        dg.Output(
            rejected,
            output_name="rejected_products",
            **stored_facts(rejected, **shown(rejected_overview(rejected.scan()))),
        ),
    )


def _progress(context: dg.AssetExecutionContext) -> Progress:
    """A line in the run's log every few seconds."""
    told = time.monotonic()

    def tell(rows: int, read: int, size: int) -> None:
        nonlocal told
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            context.log.info(f"{rows} rows, {read / max(1, size):.0%} of the file")

    return tell


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version="1",
    automation_condition=REFRESH,
)
def near_duplicates(
    context: dg.AssetExecutionContext, products: pl.LazyFrame
) -> dg.MaterializeResult[TableRef]:
    """Products that are the same thing listed again (sizes, colours, re-listings), in clusters.

    Kept apart from the products: a product's row must not change when another comes or goes.
    """
    store = TableStore(get_settings().storage)
    with store.staging("near_duplicates") as folder:
        found = write_near_duplicates(products, folder / "table.parquet")
        table = store.adopt(folder / "table.parquet", "near_duplicates")
    context.log.info(f"{found.clusters} clusters in {found.products} products")
    lineage = column_lineage("products", duplicate_sources())
    return dg.MaterializeResult(value=table, **stored_facts(table, **found.model_dump(), **lineage))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    deps=["catalog_profile"],
    code_version="1",
    automation_condition=REFRESH,
)
def assortment(products: TableRef) -> dg.MaterializeResult[pl.DataFrame]:
    """The products that the assistant is trained on: departments of interest, no rarities."""
    policy = get_profile().assortment
    kept = select_assortment(products.scan(), policy)
    rejected = read_summary(products.path).rejected
    return table_result(
        kept,
        # A row inserted above moves all row numbers and changes no product.
        version=frame_version(kept.sort("product_id").drop("source_row")),
        policy=policy.model_dump(),
        **shown(assortment_overview(products.scan(), rejected, policy)),
        **column_lineage("products", same_columns(kept.columns)),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"lancedb"},
    code_version="2",
    automation_condition=REFRESH,
)
def catalog_index(
    context: dg.AssetExecutionContext, launcher: Launcher, assortment: TableRef
) -> dg.MaterializeResult[ArtefactRef]:
    """Hybrid search over the assortment, full text and MiniLM vectors: for grounding answers."""
    spec = LaunchSpec(
        name="catalog_index",
        module="retail_assistant.catalog.build_index",
        config={"embedding": f"{EMBEDDING_MODEL} {EMBEDDING_VERSION}"},
        inputs={"assortment": assortment.sha256},
        paths={"assortment": assortment.path},
        code_version="2",
        root=get_settings().storage,
    )
    return artefact_result(launcher.launch(context, spec))


@dg.asset_check(
    asset="products",
    additional_ins={"rejected": dg.AssetIn("rejected_products")},
    blocking=True,
)
def every_row_is_accounted_for(
    products: pl.LazyFrame, rejected: pl.LazyFrame
) -> dg.AssetCheckResult:
    """Each row of the file is a product or a rejected row, and none is both."""
    used = pl.concat([products.select("source_row"), rejected.select("source_row")])
    facts = used.select(
        rows=pl.len(), distinct=pl.col("source_row").n_unique(), last=pl.col("source_row").max()
    )
    rows, distinct, last = facts.collect(engine="streaming").row(0)
    return dg.AssetCheckResult(
        passed=rows == distinct == (last or 0),
        metadata={"rows": rows, "distinct": distinct, "last_row": last or 0},
    )


@dg.asset_check(asset="products", blocking=True)
def product_ids_are_unique(products: pl.LazyFrame) -> dg.AssetCheckResult:
    """Keys are ids: no two products share one."""
    ids = products.select(rows=pl.len(), distinct=pl.col("product_id").n_unique())
    rows, distinct = ids.collect(engine="streaming").row(0)
    return dg.AssetCheckResult(passed=rows == distinct, metadata={"repeated": rows - distinct})


@dg.asset_check(asset="products")
def every_column_is_filled(products: pl.LazyFrame) -> dg.AssetCheckResult:
    """No column is empty in every product: that is a wrong mapping, or a broken export."""
    missing = missing_values(products)
    empty = empty_columns(missing)
    return dg.AssetCheckResult(
        passed=not empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"empty": empty, "missing_values": preview(missing, rows=20)},
    )


@dg.asset_check(asset="assortment")
def brands_are_known(assortment: pl.DataFrame) -> dg.AssetCheckResult:
    """Most products name their brand."""
    share = assortment["brand"].null_count() / max(1, assortment.height)
    return dg.AssetCheckResult(
        passed=share <= MAX_NULL_BRANDS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"without_brand": share, "allowed": MAX_NULL_BRANDS},
    )
