"""A retailer's day: a first model, shoppers, a new version of the catalog, and what comes of it."""

import contextlib
import csv
import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import httpx
import psutil
from tenacity import Retrying, stop_after_attempt, wait_fixed

from retail_assistant.launch.ray_head import LOOPBACK, free_port
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import EMBEDDED_CATALOG
from retail_assistant.storage.bucket import names_in
from retail_assistant_tests.emulator import BUCKET
from retail_assistant_tests.integration.dagster_events import event_counts
from retail_assistant_tests.integration.line import BIN
from retail_assistant_tests.rehearsal.parts import SECONDS_TO_START, Stage
from retail_assistant_tests.rehearsal.sizes import Size
from retail_assistant_tests.rehearsal.timeline import RehearsalError, Timeline

NEW_ID = "rehearsal".ljust(32, "0")
NEW_NAME = "Rehearsal Velvet Women's Kurta"
NEW_PRICE = 777
PRICE_NOW = 1234
REFRESHED = ("raw_catalog", "products", "assortment", "catalog_index", "prompt_corpus")
ASKED_AGAIN = ("champion_predictions", "champion_report")
SECONDS_TO_REFRESH = 1200
SECONDS_TO_TRAIN = 600
TRIES = 5
RETAIL_ASSISTANT = str(BIN / "retail-assistant")


@dataclass(frozen=True)
class Shop:
    """The assistant's address, and how it is asked."""

    url: str

    def asked(self, text: str) -> tuple[str, dict[str, Any]]:
        """An answer, and what it was made from."""
        body = {"messages": [{"role": "user", "content": text}], "model": "retail-assistant"}
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=120)
        answer.raise_for_status()
        found = answer.json()
        return found["choices"][0]["message"]["content"], found["retail_assistant"]


def tell(timeline: Timeline, parts: Stage, size: Size) -> None:
    """The whole day.

    Raises:
        RehearsalError: something did not come about.
    """
    rows = catalog_rows()
    priced = next(
        row
        for row in rows
        if "Women's Clothing >> Ethnic" in row["product_category_tree"]
        and [one["product_name"] for one in rows].count(row["product_name"]) == 1
        and row["discounted_price"]
    )
    with timeline.step("the catalog is put into the bucket") as seen:
        put_catalog(parts, rows)
        seen(f"{len(rows)} products")
    if size.loses_a_machine:
        with timeline.step("a machine is lost in the training") as seen:
            seen(lose_a_machine(timeline, parts, size))
    make_a_model(timeline, parts, size)
    with timeline.step("the assistant is started") as seen:
        shop = open_shop(timeline, parts)
        seen(shop.url)
    before = look(timeline, shop, priced, float(priced["discounted_price"]))
    counted = made(parts)
    with timeline.step("a new version of the catalog is put into the bucket") as seen:
        priced["discounted_price"] = str(PRICE_NOW)
        put_catalog(parts, [*rows, new_product(priced)])
        seen(f"one price changed, one product added: {NEW_NAME}")
    for assets, what in (
        (REFRESHED, "the sensor sees it, the daemon runs what it changes"),
        (ASKED_AGAIN, "the champion is asked about the new catalog"),
    ):
        with timeline.step(what) as seen:
            for asset in assets:
                wait_for(timeline, parts, asset, counted)
            ran = made(parts) - counted
            seen(", ".join(f"{name} {ran[name]}" for name in assets))
    with timeline.step("the assistant has the new catalog") as seen:
        timeline.until(
            "another index answers",
            lambda: shop.asked("Show me kurtas")[1]["versions"]["index"] != before,
            SECONDS_TO_START,
        )
        text, found = shop.asked(f"What does {NEW_NAME} cost?")
        require([card["product_id"] for card in found["products"]] == [NEW_ID], text)
        seen(text)
    look(timeline, shop, priced, PRICE_NOW)


def make_a_model(timeline: Timeline, parts: Stage, size: Size) -> None:
    """The main job on another machine, and its report on a third."""
    command = (RETAIL_ASSISTANT, "run", "--job", size.job)
    with timeline.step(f"the main job: {size.job}") as seen:
        # What passes no policy is promoted by hand; that there is something to promote is seen.
        codes = (0,) if size.promote is None else (0, 1)
        parts.run("main-job", *command, codes=codes, **size.main_job)
        adapter = read_artefact_ref(parts.settings.storage, "adapter", size.job)
        resumed = adapter.manifest().metrics["resumed_from"]
        require(bool(resumed) is size.loses_a_machine, f"the training went on from {resumed}")
        seen(f"the training went on from {resumed}" if resumed else "trained in one go")
        if size.promote is not None:
            size.promote(parts)
        asked, refused = sum(parts.cloud.asked.values()), parts.cloud.faults
        seen(f"{asked} requests to the bucket so far, {refused} of them refused at first")
    with timeline.step("another machine reads the report"):
        nothing = str(parts.folder / "reader")
        parts.run("report", RETAIL_ASSISTANT, "report", RETAIL_WORK_FOLDER=nothing)
        require(size.job in " ".join(parts.log("report").split()), parts.log("report"))


def lose_a_machine(timeline: Timeline, parts: Stage, size: Size) -> str:
    """Start the main job on a machine of its own, and kill -9 all of it; what it leaves."""
    folder = parts.folder / "lost"
    tree = parts.start(
        "lost-machine",
        *(RETAIL_ASSISTANT, "run", "--job", size.job),
        RETAIL_WORK_FOLDER=str(folder),
        **size.main_job,
    )

    def checkpoints() -> int:
        require(tree.wait(0) is None, parts.log("lost-machine"))
        return len(list(folder.glob("**/adapter/*/checkpoints/*/checkpoint-*/complete")))

    # It is marked whole here first, and then copied.
    timeline.until("two checkpoints", lambda: checkpoints() > 1, SECONDS_TO_TRAIN, 0.05)
    while members := tree.members():
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        tree.wait(0.1)
    kept = names_in(parts.settings.storage / "artefacts" / "adapter", "*/complete")
    require(bool(kept), "no checkpoint is in the bucket")
    return f"of its checkpoints the bucket has {len(kept)}"


def look(timeline: Timeline, shop: Shop, row: dict[str, str], price: float) -> str:
    """Ask for a price; the version of the index that answered."""
    with timeline.step("a shopper asks") as seen:
        text, found = shop.asked(f"What does {row['product_name']} cost?")
        seen(text)
        require([card["price"] for card in found["products"]] == [price], text)
        version = str(found["versions"]["index"])
        seen(f"by {found['versions']['job']} and index {version}")
    return version


def require(condition: bool, said: str) -> None:
    """All is as it has to be.

    Raises:
        RehearsalError: it is not; tells what was seen.
    """
    if not condition:
        raise RehearsalError(f"not as it has to be: {said}")


def catalog_rows() -> list[dict[str, str]]:
    """The embedded catalog."""
    with EMBEDDED_CATALOG.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def new_product(like: dict[str, str]) -> dict[str, str]:
    """One more product, of another's category."""
    return like | {
        "uniq_id": NEW_ID,
        "product_name": NEW_NAME,
        "brand": "Rehearsal",
        "retail_price": str(NEW_PRICE),
        "discounted_price": str(NEW_PRICE),
    }


def put_catalog(parts: Stage, rows: list[dict[str, str]]) -> None:
    """Upload a version of the catalog, as a retailer's nightly job does."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    for attempt in Retrying(stop=stop_after_attempt(TRIES), wait=wait_fixed(1), reraise=True):
        with attempt:
            httpx.post(
                f"{parts.cloud.url}/upload/storage/v1/b/{BUCKET}/o",
                params={"uploadType": "media", "name": "given/catalog.csv"},
                content=text.getvalue().encode(),
                headers={"Content-Type": "text/csv"},
                timeout=60,
            ).raise_for_status()


def open_shop(timeline: Timeline, parts: Stage) -> Shop:
    """Start the assistant, and wait until its model writes."""
    port = free_port()
    shop = Shop(f"http://{LOOPBACK}:{port}")
    parts.start(
        "assistant",
        *(RETAIL_ASSISTANT, "serve", "--port", str(port)),
        RETAIL_SERVING_WATCH_SECONDS="2",
    )

    def is_ready() -> bool:
        try:
            return httpx.get(f"{shop.url}/ready", timeout=20).status_code == 200
        except httpx.HTTPError:
            return False

    timeline.until("the assistant is ready", is_ready, SECONDS_TO_START)
    return shop


def made(parts: Stage) -> Counter[str]:
    """How often each asset was materialized or observed so far."""
    with parts.instance() as instance:
        return event_counts(instance)


def wait_for(timeline: Timeline, parts: Stage, asset: str, before: Counter[str]) -> None:
    """Until an asset was made again.

    Raises:
        RehearsalError: it was not, or a run failed; tells of the failed ones.
    """

    began, key = datetime.now(UTC), dg.AssetKey(asset)

    def is_there() -> bool:
        with parts.instance() as instance:
            wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=began)
            runs = instance.get_runs(wanted)
        failed = [run for run in runs if key in (run.asset_selection or {key})]
        if failed:
            names = ", ".join(f"{run.job_name} {run.run_id[:8]}" for run in failed)
            raise RehearsalError(f"failed runs: {names}\n{parts.log('daemon')}")
        return made(parts)[asset] > before[asset]

    timeline.until(f"{asset} is made again", is_there, SECONDS_TO_REFRESH)
