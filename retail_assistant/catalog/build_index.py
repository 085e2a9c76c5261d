"""Build the search index in a process of its own (it loads an embedding model).

`python -m retail_assistant.catalog.build_index --spec spec.json` leaves the folder `index/`. The
index that the asset refers to so far is where unchanged vectors come from; which one that is, is
no part of the result's identity.
"""

from pathlib import Path

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.suggestion_quality import suggestion_quality
from retail_assistant.launch.spec import LaunchSpec, read_artefact_ref, read_manifest
from retail_assistant.launch.workload import workload
from retail_assistant.storage import StorageError, TableRef


def main() -> None:
    """Entry point of the workload."""
    with workload("Build the catalog's search index.") as work:
        table = TableRef(
            path=work.spec.paths["assortment"], sha256=work.spec.inputs["assortment"], rows=0
        )
        folder = work.folder / "index"
        previous = previous_index(work.spec)
        work.say("embedding and indexing the assortment")
        summary = build_index(table.scan(), folder, previous, work.progress)
        work.say(
            f"{summary.products} products: {summary.embedded} embedded,"
            f" {summary.reused} taken over, {summary.removed} gone"
        )
        quality = suggestion_quality(CatalogIndex.open(folder))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            work.output(str(path.relative_to(work.folder)), path)
        work.metrics = {**summary.model_dump(), "suggestions": quality.model_dump()}


def previous_index(spec: LaunchSpec) -> Path | None:
    """The finished and intact index that the asset refers to, or None."""
    try:
        ref = read_artefact_ref(spec.root, spec.name)
    except (StorageError, ValueError):
        return None
    return ref.part("index") if read_manifest(ref.folder) is not None else None


if __name__ == "__main__":
    main()
