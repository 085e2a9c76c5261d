"""The refresh of the catalog: is a new one plausible, what has it changed, may it go further?"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.catalog.acceptance import (
    FIRST,
    REFRESH_CHECKS,
    Acceptance,
    CleanedTables,
    Verdict,
    first_verdict,
)
from retail_assistant.catalog.profile import get_profile
from retail_assistant.defs.conditions import REFRESH
from retail_assistant.defs.io_managers import column_schema, preview
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore

GROUP = "catalog"
OWNERS = ["team:catalog"]
HOW_TO_ACCEPT = (
    "If the catalog is right all the same: launch the job `accept_catalog`, then execute this check"
    " again (automation does that by itself). Thresholds: section `refresh` of the retailer's"
    " profile."
)


# Automation leaves a check with a condition of its own out of its asset's run, unless asked for it.
_with_products: dg.AutomationCondition[dg.AssetCheckKey] = dg.AutomationCondition.asset_matches(
    "products", dg.AutomationCondition.will_be_requested()
)
_changes_made: dg.AutomationCondition[dg.AssetCheckKey] = dg.AutomationCondition.asset_matches(
    "catalog_changes", dg.AutomationCondition.newly_updated()
)
_with_products_or_once_accepted = (
    _with_products | (dg.AutomationCondition.check_failed() & _changes_made)
).with_label("with_products_or_once_accepted")


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            name,
            asset="products",
            blocking=True,
            description=f"{check.__doc__} Compared with the last accepted catalog.",
            additional_deps=["rejected_products"],
            automation_condition=_with_products_or_once_accepted,
        )
        for name, check in REFRESH_CHECKS.items()
    ],
    ins={"products": dg.AssetIn("products"), "rejected_products": dg.AssetIn("rejected_products")},
    can_subset=True,
)
def plausible_refresh(
    context: dg.AssetCheckExecutionContext, products: TableRef, rejected_products: TableRef
) -> Iterator[dg.AssetCheckResult]:
    """Hold back a catalog that differs too much from the last accepted one."""
    new = CleanedTables(products, rejected_products)
    accepted = _acceptance().accepted
    for key in sorted(context.selected_asset_check_keys):
        if accepted is None:
            verdict = first_verdict(key.name, new, get_profile().refresh)
        else:
            verdict = REFRESH_CHECKS[key.name](new, accepted, get_profile().refresh)
        yield _check_result(key, verdict)


def _acceptance() -> Acceptance:
    settings = get_settings()
    return Acceptance(TableStore(settings.storage), settings.catalog_uri)


def _check_result(key: dg.AssetCheckKey, verdict: Verdict) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"found": verdict.found, **verdict.facts}
    if verdict.examples is not None and not verdict.examples.is_empty():
        metadata["examples"] = preview(verdict.examples, rows=20)
    if not verdict.passed:
        metadata["how_to_accept"] = HOW_TO_ACCEPT
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=verdict.passed,
        description=verdict.found,
        metadata=metadata,
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version="1",
    automation_condition=REFRESH,
)
def catalog_changes(
    context: dg.AssetExecutionContext, products: TableRef, rejected_products: TableRef
) -> dg.MaterializeResult[TableRef]:
    """What the catalog changed: a row for each added, removed or changed product.

    Compared with the catalog of the same source that was accepted before. Materializing this
    accepts the catalog: the next one is judged against it.
    """
    store = TableStore(get_settings().storage)
    new = CleanedTables(products, rejected_products)
    with store.staging("catalog_changes") as folder:
        counts = _acceptance().accept(new, folder / "changes.parquet")
        changes = store.adopt(folder / "changes.parquet", "catalog_changes")
    told: dict[str, Any]
    if counts is None:
        context.log.info(f"{products.rows} products: {FIRST}")
        told = {"added": products.rows, "removed": 0, "changed": 0, "compared_with": FIRST}
    else:
        told = counts.model_dump()
        context.log.info(", ".join(f"{count} {name}" for name, count in told.items()))
    table = changes.scan()
    return dg.MaterializeResult(
        value=changes,
        data_version=dg.DataVersion(changes.sha256[:20]),
        metadata={
            "dagster/row_count": changes.rows,
            "dagster/column_schema": column_schema(table.head(0).collect()),
            "preview": _examples(table),
            "changed_columns": preview(_changed_columns(table), rows=20),
            **told,
        },
    )


def _examples(changes: pl.LazyFrame) -> dg.TableMetadataValue:
    few = pl.concat(
        [changes.filter(change=kind).head(5) for kind in ("added", "removed", "changed")]
    )
    return preview(few.collect(engine="streaming"), rows=15)


def _changed_columns(changes: pl.LazyFrame) -> pl.DataFrame:
    """How many products changed in each column, most first."""
    columns = changes.select(column="changed_columns").explode("column").drop_nulls()
    counted: pl.DataFrame = (
        columns.group_by("column")
        .len("products")
        .sort("products", "column", descending=[True, False])
        .collect(engine="streaming")
    )
    return counted
