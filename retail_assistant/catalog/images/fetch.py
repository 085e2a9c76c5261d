"""Fetch product images on Ray.

`python -m retail_assistant.catalog.images.fetch --spec spec.json` leaves `images.parquet`
(`ProductImageSchema`); the images themselves and their receipts go to the object store.
"""

import sys
import time

import polars as pl

from retail_assistant.catalog.images.manifest import (
    Rounds,
    image_table,
    status_counts,
    wanted_images,
)
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.pool import WorkerPool
from retail_assistant.catalog.images.receipts import (
    RECEIPT_SCHEMA,
    good_receipts,
    known_receipts,
    merge_receipts,
)
from retail_assistant.launch.ray_cluster import RayClusterError, ray_cluster
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.objects import ObjectStore, ObjectStoreError
from retail_assistant.storage import StorageError, TableRef

OUTPUT = "images"


class _Tally:
    """Counts for the run's log."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._started = 0.0
        self.fetched = 0
        self.failed = 0
        self.seconds = 0.0
        """From Ray being ready to the last receipt."""

    def start(self) -> None:
        """Ray stands, its workers are ready: from here on time is spent on fetching."""
        self._started = time.monotonic()

    def add(self, rows: list[dict], total: int) -> None:
        self.fetched += len(rows)
        self.failed += sum(row["status"] != "stored" for row in rows)
        self.seconds = time.monotonic() - self._started
        rate = self.fetched / max(1e-3, self.seconds)
        self._work.progress(
            self.fetched, total, f"images, {rate:.0f} a second, {self.failed} failed"
        )


def fetch_images(work: Workload, products: pl.LazyFrame) -> None:
    """Fetch what is wanted and not there, and leave the manifest table.

    Raises:
        ObjectStoreError: the store cannot be used.
        RayClusterError: Ray cannot be used.
    """
    policy = ImagePolicy.model_validate(work.spec.config["policy"])
    store = ObjectStore(work.spec.config["store"])
    store.check()
    wanted = wanted_images(products)
    known = known_receipts(store).join(wanted, on="url", how="semi")
    rounds = Rounds(wanted, policy.mode)
    rounds.learn(good_receipts(known, store, policy, work.spec.fingerprint))
    kept = rounds.receipts.height
    work.say(f"{wanted.height} images wanted, {wanted['url'].n_unique()} URLs, {kept} known")
    started = time.monotonic()
    tally = _Tally(work)
    _run_rounds(rounds, known, policy, work, tally)
    table = image_table(wanted, rounds.receipts, store, policy.mode, policy.thumbnail_side)
    table.write_parquet(work.folder / "images.parquet", compression="zstd")
    work.output(OUTPUT, work.folder / "images.parquet")
    work.metrics = {
        "urls_known": kept,
        "urls_asked": tally.fetched,
        "seconds": round(time.monotonic() - started, 2),
        "seconds_fetching": round(tally.seconds, 2),
        "statuses": dict(status_counts(table).iter_rows()),
    }


def _run_rounds(
    rounds: Rounds, known: pl.DataFrame, policy: ImagePolicy, work: Workload, tally: _Tally
) -> None:
    """Start Ray only where there is something to fetch."""
    store = work.spec.config["store"]
    images = known.filter(pl.col("status") == "stored")
    earlier = {row["url"]: row for row in images.iter_rows(named=True)}
    plan = iter(rounds)
    first = next(plan, [])
    if not first and policy.mode == "all":
        return
    with ray_cluster() as cpus:
        pool = WorkerPool(policy, store, work.spec.fingerprint, cpus)
        tally.start()
        urls: list[str] | None = first
        while urls is not None:
            total = tally.fetched + len(urls)
            for rows in pool.fetch(urls, earlier):
                rounds.learn(pl.DataFrame(rows, schema=RECEIPT_SCHEMA))
                tally.add(rows, total)
            urls = next(plan, None)
    merge_receipts(ObjectStore(store))


def main() -> None:
    """Entry point of the workload."""
    with workload("Fetch product images.") as work:
        name, path = next(iter(work.spec.paths.items()))
        table = TableRef(path=path, sha256=work.spec.inputs[name], rows=0)
        try:
            fetch_images(work, table.scan())
        except (ObjectStoreError, RayClusterError, StorageError) as error:
            # The message says all that a person can act on; the stack says nothing more.
            sys.exit(str(error))


if __name__ == "__main__":
    main()
