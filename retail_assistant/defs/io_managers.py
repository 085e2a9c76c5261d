"""How assets are stored: frames as tables, heavy work as references to its artefact folder."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import dagster as dg
import polars as pl

from retail_assistant.catalog.lineage import ColumnSources
from retail_assistant.catalog.overview import Overview
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref, write_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableRef, TableStore

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
    head = table.scan().head(PREVIEW_ROWS).collect()
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
    `TableRef` (where it is and which content) or `ArtefactRef`; `dict[str, TableRef]` and
    `dict[str, ArtefactRef]` take any number of partitions, by their keys. A table that was written
    in pieces comes as a `TableRef`: it is stored already, and only its pointer moves. An asset
    that makes several partitions in one run gives a dictionary with a value for each.
    """

    def handle_output(
        self,
        context: dg.OutputContext,
        obj: pl.DataFrame | TableRef | ArtefactRef | Mapping[str, pl.DataFrame],
    ) -> None:
        """Store a frame or a reference, or one of each partition, and say where."""
        name = context.asset_key.path[-1]
        if isinstance(obj, Mapping):
            _require_keys(name, obj, context.asset_partition_keys)
            paths = {key: self._store(obj[key], name, key) for key in sorted(obj)}
            if len(paths) > 1:
                context.add_output_metadata({"paths": {k: str(path) for k, path in paths.items()}})
                return
            (path,) = paths.values()
        else:
            partition = context.asset_partition_key if context.has_asset_partitions else None
            path = self._store(obj, name, partition)
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def _store(
        self, obj: pl.DataFrame | TableRef | ArtefactRef, name: str, partition: str | None
    ) -> Path:
        store = TableStore(get_settings().storage)
        if isinstance(obj, pl.DataFrame):
            return store.write(obj, name, partition).path
        if isinstance(obj, TableRef):
            store.point(obj, name, partition)
            return obj.path
        write_artefact_ref(obj, get_settings().storage, name, partition)
        return obj.folder

    def load_input(
        self, context: dg.InputContext
    ) -> pl.DataFrame | pl.LazyFrame | TableRef | ArtefactRef | dict[str, Any]:
        """Load what an upstream asset stored.

        Raises:
            StorageError: it was never materialized, or is damaged.
        """
        name = context.asset_key.path[-1]
        wanted = context.dagster_type.typing_type
        if get_origin(wanted) is dict:
            keys, root = sorted(context.asset_partition_keys), get_settings().storage
            if get_args(wanted)[1] is ArtefactRef:
                return {key: read_artefact_ref(root, name, key) for key in keys}
            return {key: TableStore(root).ref(name, key) for key in keys}
        partition = context.asset_partition_key if context.has_asset_partitions else None
        if wanted is ArtefactRef:
            return read_artefact_ref(get_settings().storage, name, partition)
        ref = TableStore(get_settings().storage).ref(name, partition)
        if wanted is TableRef:
            return ref
        return ref.scan() if wanted is pl.LazyFrame else ref.read()


def _require_keys(name: str, given: Mapping[str, Any], partitions: Iterable[str]) -> None:
    if set(given) != set(partitions):
        raise StorageError(
            f"{name}: values for {', '.join(sorted(given))}; allowed: one for each of"
            f" {', '.join(sorted(partitions))}"
        )
