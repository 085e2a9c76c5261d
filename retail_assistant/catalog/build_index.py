"""Build the search index in a process of its own (it loads an embedding model).

`python -m retail_assistant.catalog.build_index --spec spec.json` leaves the folder `index/`.
"""

from retail_assistant.catalog.index import build_index
from retail_assistant.launch.workload import workload
from retail_assistant.storage import TableRef


def main() -> None:
    """Entry point of the workload."""
    with workload("Build the catalog's search index.") as work:
        table = TableRef(
            path=work.spec.paths["assortment"], sha256=work.spec.inputs["assortment"], rows=0
        )
        folder = work.folder / "index"
        work.say("embedding and indexing the assortment")
        summary = build_index(table.read(), folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            work.output(str(path.relative_to(work.folder)), path)
        work.metrics = summary.model_dump()


if __name__ == "__main__":
    main()
