"""A catalog that changes under a running daemon: what runs, what is reused, what is held back.

A real Dagster instance and a real `dagster-daemon`; heavy work in its own processes. The tests of
this module are one story, told in order on one storage folder.
"""

import csv
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.catalog.acceptance import Acceptance
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import EMBEDDED_CATALOG, PACKAGE_FOLDER
from retail_assistant.storage import TableStore
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.integration.dagster_events import event_counts
from retail_assistant_tests.integration.line import BIN, TINY_STUDY, Line

pytestmark = pytest.mark.slow

MADE = {
    "products",
    "rejected_products",
    "catalog_changes",
    "near_duplicates",
    "assortment",
    "catalog_index",
    "product_splits",
    "dialogues",
    "unwritten_dialogues",
    "screened_dialogues",
    "rejected_dialogues",
    "corpus_sheet",
    "corpus_approval",
}
"""Not the prompts: they wait for the base model, which no test here needs."""
CLEANED = {"products", "rejected_products"}
OBSERVED = {
    "raw_catalog",
    "catalog_profile",
    "store_knowledge",
    "labelled_text_file",
    "base_model_source",
    "promotion_policy",
    "judge",
    "shopper_mix",
}
MODULE = "retail_assistant.definitions"
LOOK_SECONDS = 2
# Nothing in progress and nothing new for so long: several looks of both sensors.
QUIET_SECONDS = 10
PATIENCE_SECONDS = 300

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Shop(Line):
    """A line with a catalog file of its own and the refresh switched on."""

    by_hand: Counter[str] = field(default_factory=Counter)

    @property
    def file(self) -> Path:
        return self.storage.parent / "catalog.csv"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "RETAIL_CATALOG_URI": str(self.file),
            "RETAIL_REFRESH": "1",
            "RETAIL_REFRESH_INTERVAL": str(LOOK_SECONDS),
            # Never in the time that this test takes.
            "RETAIL_REFRESH_SCHEDULE": "0 0 29 2 *",
            "RETAIL_EVALUATION_PRODUCTS": "20",
            "RETAIL_TRAIN_PRODUCTS": "40",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }

    def write(self, edit: Callable[[Rows], Rows] = lambda rows: rows) -> None:
        """Put the embedded catalog, edited, in the file's place; in one piece, as of long ago."""
        with EMBEDDED_CATALOG.open(newline="", encoding="utf-8") as source:
            reader = csv.DictReader(source)
            rows, columns = list(reader), reader.fieldnames or []
        whole = self.file.with_suffix(".tmp")
        with whole.open("w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, columns)
            writer.writeheader()
            writer.writerows(edit(rows))
        age = time.time() - 3600
        os.utime(whole, (age, age))
        whole.replace(self.file)

    def execute(self, *command: str) -> None:
        """Run a command of Dagster's command line to its successful end."""
        ended = subprocess.run(
            [BIN / "dagster", *command, "-m", MODULE],
            env=self.environment,
            cwd=self.storage.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]

    def events(self) -> Counter[str]:
        """How often each asset was materialized, and `raw_catalog` observed, up to now."""
        with self.instance() as instance:
            return event_counts(instance)

    def unfinished(self) -> int:
        """Runs that have not ended."""
        open_ones = [
            status for status in dg.DagsterRunStatus if status.value in ("QUEUED", "NOT_STARTED")
        ] + [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
        with self.instance() as instance:
            return instance.get_runs_count(dg.RunsFilter(statuses=open_ones))

    def ran_after(self, before: Counter[str], at_least: set[str]) -> Counter[str]:
        """Wait until `at_least` these have run and all is quiet; how often each asset ran."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        last, since = Counter[str](), time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(2)
            ran = self.events() - before
            if ran != last or self.unfinished():
                last, since = ran, time.monotonic()
            if set(ran) >= at_least and time.monotonic() - since >= QUIET_SECONDS:
                return ran
        raise AssertionError(f"not quiet after {PATIENCE_SECONDS} s; ran: {dict(last)}")

    @property
    def store(self) -> TableStore:
        return TableStore(self.storage)

    def told(self, asset: str) -> dict[str, object]:
        with self.instance() as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


@pytest.fixture(scope="module")
def shop(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop whose catalog stage and corpus are made, and a daemon that looks after them."""
    folder = tmp_path_factory.mktemp("refresh")
    (folder / "studies").mkdir()
    (folder / "studies" / "tiny.yaml").write_text(TINY_STUDY)
    shop = Shop(folder / "var", folder / "studies", tiny_model_folder)
    shop.write()
    home = shop.storage / "dagster"
    home.mkdir(parents=True)
    config = (PACKAGE_FOLDER / "data" / "dagster.local.yaml").read_text()
    queue = "class: JobQueue"
    assert queue in config
    quick = f"{queue}\n  config: {{dequeue_interval_seconds: 1}}"
    (home / "dagster.yaml").write_text(config.replace(queue, quick))
    started = time.monotonic()
    shop.execute("job", "execute", "-j", "observe_catalog")
    shop.execute("asset", "materialize", "--select", ",".join(sorted(MADE)))
    print(f"\nfirst catalog: {time.monotonic() - started:.0f} s")
    shop.by_hand.update(shop.events())
    log = (folder / "daemon.log").open("wb")
    with log, subprocess.Popen(
        [BIN / "dagster-daemon", "run", "-w", REPOSITORY / "workspace.yaml"],
        env=shop.environment,
        cwd=shop.storage.parent,
        stdout=log,
        stderr=log,
    ) as daemon:  # fmt: skip
        try:
            yield shop
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)


def test_a_daemon_finds_nothing_to_do_where_all_is_up_to_date(shop: Shop) -> None:
    # Its first look at the file leads to an observation; the version is the one that is known.
    ran = shop.ran_after(shop.by_hand, {"raw_catalog"})
    assert set(ran) == OBSERVED


def test_a_one_percent_edit_runs_what_follows_and_reuses_the_rest(shop: Shop) -> None:
    before, products = shop.events(), shop.store.ref("assortment").read()
    edited = set(products["product_id"].gather_every(100))

    def edit(rows: Rows) -> Rows:
        for row in rows:
            if row["uniq_id"] in edited:
                row["product_name"] = f"Renamed {row['product_name']}"
        return rows

    shop.write(edit)
    started = time.monotonic()
    ran = shop.ran_after(before, MADE)
    print(f"\na 1% edit: quiet after {time.monotonic() - started:.0f} s")
    assert dict(ran) == dict.fromkeys(MADE | OBSERVED, 1)

    changes = shop.store.ref("catalog_changes").read()
    assert set(changes["product_id"]) == edited
    assert set(changes["change"]) == {"changed"}
    index = read_artefact_ref(shop.storage, "catalog_index").manifest().metrics
    assert index["products"] == products.height
    assert index["reused"] >= 0.98 * products.height
    assert 0 < index["embedded"] <= len(edited)
    dialogues = shop.told("dialogues")
    total = shop.store.ref("dialogues").rows
    print(f"index: {index['reused']} of {index['products']} reused; dialogues:"
          f" {dialogues['reused']} of {total}")  # fmt: skip
    assert dialogues["reused"] >= 0.96 * total


def test_a_touched_file_is_observed_and_nothing_else(shop: Shop) -> None:
    before = shop.events()
    later = shop.file.stat().st_mtime + 60
    os.utime(shop.file, (later, later))
    assert set(shop.ran_after(before, {"raw_catalog"})) == OBSERVED


def test_a_chopped_catalog_is_cleaned_and_goes_no_further(shop: Shop) -> None:
    before, accepted = shop.events(), Acceptance(shop.store, str(shop.file)).accepted
    assert accepted is not None
    shop.write(lambda rows: rows[: int(0.4 * len(rows))])
    ran = shop.ran_after(before, CLEANED)
    assert dict(ran) == dict.fromkeys(CLEANED | OBSERVED, 1)
    # The quiet was several looks; here are some more.
    time.sleep(QUIET_SECONDS)
    assert shop.events() - before == ran
    assert Acceptance(shop.store, str(shop.file)).accepted == accepted
    assert shop.store.ref("products").rows < 0.5 * accepted.products.rows
