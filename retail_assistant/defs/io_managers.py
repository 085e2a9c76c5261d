"""How assets are stored: frames as tables, heavy work as references to its artefact folder."""

import hashlib
import io
import json
from typing import Any, get_origin

import dagster as dg
import polars as pl

from retail_assistant.catalog.lineage import ColumnSources
from retail_assistant.catalog.overview import Overview
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref, write_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 160


def frame_version(frame: pl.DataFrame) -> str:
    """A data version: the same for the same content, whoever computed it and when."""
    buffer = io.BytesIO()
    # Parquet, not IPC: Arrow's buffers hold whatever was in memory where a value is null.
    frame.rechunk().write_parquet(buffer, compression="uncompressed", statistics=False)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()[:20]


def column_schema(frame: pl.DataFrame) -> dg.TableSchema:
    """A frame's columns as the UI shows them."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name, type=str(kind)) for name, kind in frame.schema.items()]
    )


def preview(frame: pl.DataFrame, rows: int = PREVIEW_ROWS) -> dg.TableMetadataValue:
    """The first rows as a table of plain text (catalog text is untrusted: no markdown)."""
    shown = [
        dg.TableRecord({name: _cell(value) for name, value in row.items()})
        for row in frame.head(rows).to_dicts()
    ]
    schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in frame.columns])
    return dg.MetadataValue.table(records=shown, schema=schema)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"


def table_result(
    frame: pl.DataFrame, *, version: str | None = None, **metadata: Any
) -> dg.MaterializeResult[pl.DataFrame]:
    """A frame as an asset's result, with what every table shows in the UI."""
    return dg.MaterializeResult(value=frame, **table_facts(frame, version=version, **metadata))


def table_facts(
    frame: pl.DataFrame, *, version: str | None = None, **metadata: Any
) -> dict[str, Any]:
    """Data version (that of all its content, unless given) and metadata of a frame."""
    return {
        "data_version": dg.DataVersion(version or frame_version(frame)),
        "metadata": {
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame),
            **metadata,
            "preview": preview(frame),
        },
    }


def stored_facts(table: TableRef, *, version: str | None = None, **metadata: Any) -> dict[str, Any]:
    """Data version and metadata of a table that was written in pieces."""
    head = pl.scan_parquet(table.path).head(PREVIEW_ROWS).collect()
    return {
        "data_version": dg.DataVersion(version or table.sha256[:20]),
        "metadata": {
            "dagster/row_count": table.rows,
            "dagster/column_schema": column_schema(head),
            **metadata,
            "preview": preview(head),
        },
    }


def shown(overview: Overview) -> dict[str, Any]:
    """An overview as metadata."""
    return {
        **overview.numbers,
        **{name: dg.MetadataValue.md(picture) for name, picture in overview.pictures.items()},
        **{name: preview(table, rows=20) for name, table in overview.tables.items()},
    }


def column_lineage(upstream: str, sources: ColumnSources) -> dict[str, Any]:
    """Which columns of `upstream` each column comes from, as metadata."""
    key = dg.AssetKey(upstream)
    deps = {
        name: [dg.TableColumnDep(key, source) for source in found]
        for name, found in sources.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


class StorageIOManager(dg.ConfigurableIOManager):
    """Frames go to content-named parquet files, artefact references to small pointer files.

    An input is loaded as its parameter's annotation asks: `pl.DataFrame`, `pl.LazyFrame`,
    `TableRef` (where it is and which content) or `ArtefactRef`; `dict[str, TableRef]` takes any
    number of partitions, by their keys. A table that was written in pieces
    comes as a `TableRef`: it is stored already, and only its pointer moves.
    """

    def handle_output(
        self, context: dg.OutputContext, obj: pl.DataFrame | TableRef | ArtefactRef
    ) -> None:
        """Store a frame or a reference, and say where."""
        partition = context.asset_partition_key if context.has_asset_partitions else None
        name = context.asset_key.path[-1]
        store = TableStore(get_settings().storage)
        if isinstance(obj, pl.DataFrame):
            path = store.write(obj, name, partition).path
        elif isinstance(obj, TableRef):
            path = obj.path
            store.point(obj, name, partition)
        else:
            path = obj.folder
            write_artefact_ref(obj, get_settings().storage, name, partition)
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def load_input(
        self, context: dg.InputContext
    ) -> pl.DataFrame | pl.LazyFrame | TableRef | ArtefactRef | dict[str, TableRef]:
        """Load what an upstream asset stored.

        Raises:
            StorageError: it was never materialized, or is damaged.
        """
        name = context.asset_key.path[-1]
        wanted = context.dagster_type.typing_type
        if get_origin(wanted) is dict:
            store = TableStore(get_settings().storage)
            return {key: store.ref(name, key) for key in sorted(context.asset_partition_keys)}
        partition = context.asset_partition_key if context.has_asset_partitions else None
        if wanted is ArtefactRef:
            return read_artefact_ref(get_settings().storage, name, partition)
        ref = TableStore(get_settings().storage).ref(name, partition)
        if wanted is TableRef:
            return ref
        return ref.scan() if wanted is pl.LazyFrame else ref.read()
