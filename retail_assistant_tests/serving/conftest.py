"""One index of the embedded catalog's assortment for all tests of serving that read it."""

from collections.abc import Callable

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.serving.understanding.conversation import Plan, Shop
from retail_assistant_tests.catalogs import assortment_of

Talk = Callable[..., list[Plan]]


@pytest.fixture(scope="session")
def shop_products() -> pl.DataFrame:
    """The embedded catalog's assortment, with what each product costs."""
    price = pl.coalesce("discounted_price", "retail_price").alias("price")
    return assortment_of().with_columns(price)


@pytest.fixture(scope="session")
def shop_index(
    shop_products: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> CatalogIndex:
    folder = tmp_path_factory.mktemp("shop") / "index"
    build_index(shop_products.drop("price"), folder)
    return CatalogIndex.open(folder)


@pytest.fixture(scope="session")
def shop(shop_index: CatalogIndex) -> Shop:
    return Shop(shop_index, "test")


@pytest.fixture
def talk(shop: Shop) -> Talk:
    """The plans of a conversation, message by message; answers are as a client sends them back."""

    def plans(*texts: str) -> list[Plan]:
        messages: list[dict[str, str]] = []
        found = []
        for text in texts:
            messages.append({"role": "user", "content": text})
            plan = shop.plan(messages)
            found.append(plan)
            messages.append({"role": "assistant", "content": plan.text or "A model's answer."})
        return found

    return plans
