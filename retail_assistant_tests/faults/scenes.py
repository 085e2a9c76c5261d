"""Small pieces of real work on a storage folder, done by children of `forked`, and what was before.

A scene is a function `before_…` that lays out what there is, and one that does the work.
"""

import asyncio
from pathlib import Path

import polars as pl

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import good_receipts, known_receipts, merge_receipts
from retail_assistant.catalog.images.worker import ImageWorker
from retail_assistant.catalog.publication import publish_index
from retail_assistant.corpus.approval import ApprovalRecord
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.contest import hold_contest
from retail_assistant.evaluation.promotion_policy import PromotionPolicy
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.objects import ObjectStore
from retail_assistant.settings import Settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.evaluation.contests import Shop, answers_of

VERSION = "a" * 64
ANN = {"by": "Ann Doe", "reason": "shoppers complain"}


def before_table(storage: str) -> None:
    """A table that was stored before."""
    TableStore(Path(storage)).write(pl.DataFrame({"product_id": ["a", "b"]}), "products")


def table(storage: str) -> None:
    """It is stored again, with other content."""
    TableStore(Path(storage)).write(pl.DataFrame({"product_id": ["a", "b", "c"]}), "products")


def before_approval(storage: str) -> None:
    """An earlier version was approved."""
    ApprovalRecord(Path(storage), "auto").settle("b" * 64, {"dialogues": 3})


def approval(storage: str) -> None:
    """So is this one."""
    ApprovalRecord(Path(storage), "auto").settle(VERSION, {"dialogues": 4})


def before_promotion(storage: str) -> None:
    """`old` serves; `new` is better, and compared with it."""
    shop = _shop(storage)
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    shop.job("new", answers_of("new"))
    shop.compare()
    shop.report()


def promotion(storage: str) -> None:
    """The policy decides on the comparison."""
    settings = Settings(storage_uri=storage)
    comparison = read_artefact_ref(settings.storage, "model_comparison")
    report = TableStore(settings.storage).ref("champion_report").read()
    hold_contest(comparison, report, Champions(settings), PromotionPolicy(), seed=0)


def before_rollback(storage: str) -> None:
    """`new` has taken the place of `old`."""
    before_promotion(storage)
    promotion(storage)


def rollback(storage: str) -> None:
    """A person rolls back; whoever finds that begun goes on with it."""
    champions = Champions(Settings(storage_uri=storage))
    serves = champions.settle()
    assert serves is not None
    if serves.job == "new":
        champions.roll_back(**ANN)


def before_publication(storage: str) -> None:
    """An index was published."""
    _publish(storage, "the old index")


def publication(storage: str) -> None:
    """Another one takes its place."""
    _publish(storage, "the new index")


def before_images(storage: str) -> None:
    """There is nothing yet."""


def images(storage: str, policy: str, *urls: str) -> None:
    """What is wanted and not there is fetched, as by a worker of the asset `product_images`."""
    rules = ImagePolicy.model_validate_json(policy)
    store = ObjectStore(f"{storage}/objects")
    known = good_receipts(known_receipts(store), store, rules, "run")
    asyncio.run(_fetched(store, rules, sorted(set(urls) - set(known["url"]))))
    merge_receipts(store)


async def _fetched(store: ObjectStore, rules: ImagePolicy, urls: list[str]) -> None:
    worker = ImageWorker(rules, store.uri, "run", 1, 1)
    try:
        await worker.fetch(urls)
    finally:
        await worker.close()


def _shop(storage: str) -> Shop:
    return Shop(Settings(storage_uri=storage))


def _publish(storage: str, text: str) -> None:
    folder = Path(storage) / text.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / f"part-{number}").write_text(f"{text} {number}")
    publish_index(folder, f"file://{storage}/published")
