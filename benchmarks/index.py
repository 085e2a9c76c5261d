"""The search index: build times from nothing and after a change, latencies, turns, suggestions.

    .venv/bin/python benchmarks/index.py [CATALOG] [--changed 0.01] [--queries 100] [--index FOLDER]

CATALOG: anything `retail-assistant catalog clean` reads (default: the embedded catalog), or a
parquet file of products. Prints one table a part; every number is from this one run. With --index
nothing is built: the index of CATALOG in that folder is asked.
"""

import argparse
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from pathlib import Path

import polars as pl
import psutil

from retail_assistant.catalog.embedding import embed
from retail_assistant.catalog.filters import ProductFilter
from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.suggestion_quality import suggestion_quality
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.settings import EMBEDDED_CATALOG

HEAD = f"{'n':>6}{'p50, ms':>10}{'p95, ms':>10}{'CPU p50':>10}{'CPU p95':>10}"
FREE_WORDS = list(
    itertools.product(
        (
            "aunt",
            "uncle",
            "boss",
            "teacher",
            "cousin",
            "friend",
            "doctor",
            "driver",
            "cook",
            "twin",
        ),
        (
            "lake",
            "garden",
            "harbour",
            "museum",
            "station",
            "market",
            "castle",
            "theatre",
            "village",
            "ferry",
        ),
    )
)


def assortment(catalog: str, folder: Path) -> pl.DataFrame:
    """The products of a catalog that the assistant is trained on, cleaned elsewhere."""
    import subprocess
    import sys

    from retail_assistant.catalog.assortment import AssortmentPolicy, select_assortment

    if catalog.endswith(".parquet"):
        return pl.read_parquet(catalog)
    command = [sys.executable, "-m", "retail_assistant.cli", "catalog", "clean", catalog]
    subprocess.run([*command, "--output", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return select_assortment(pl.scan_parquet(folder / "products.parquet"), AssortmentPolicy())


def drawn(products: pl.DataFrame, count: int) -> pl.DataFrame:
    """`count` products in an order given by a hash of their ids."""
    places = [blake2b(i.encode(), digest_size=8).hexdigest() for i in products["product_id"]]
    return products.with_columns(place=pl.Series(places)).sort("place").head(count).drop("place")


def changed(products: pl.DataFrame, share: float) -> pl.DataFrame:
    """The same products, a share of them (drawn by hash) with another word in the name."""
    ids = drawn(products, max(1, round(share * products.height)))["product_id"]
    name = pl.col("name") + pl.lit(" New")
    is_drawn = pl.col("product_id").is_in(ids.implode())
    return products.with_columns(pl.when(is_drawn).then(name).otherwise("name").alias("name"))


def build_times(products: pl.DataFrame, folder: Path, share: float) -> Path:
    full = folder / "full"
    rows = [("from nothing", products, None, full)]
    rows += [("nothing changed", products, full, folder / "same")]
    rows += [(f"{share:.0%} changed", changed(products, share), full, folder / "changed")]
    print(f"{'build':<18}{'seconds':>9}{'embedded':>10}{'reused':>9}{'MB':>8}{'peak RSS, MiB':>15}")
    for name, frame, previous, target in rows:
        started = time.perf_counter()
        made = build_index(frame.lazy(), target, previous)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        counts = f"{made.embedded:>10}{made.reused:>9}{made.size_bytes / 1e6:>8.1f}{peak:>15.0f}"
        print(f"{name:<18}{seconds:>9.1f}{counts}")
    return full


def misspelt(name: str) -> str:
    """The name with two letters of its longest word swapped."""
    word = max(name.split(), key=len)
    return name.replace(word, word[:2] + word[3] + word[2] + word[4:]) if len(word) > 4 else name


def line(name: str, asks: Iterable[Callable[[], object]]) -> None:
    """Ask one after the other, and print how long they took."""
    taken, computed = [], []
    for ask in asks:
        started, began = time.perf_counter(), time.process_time()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
        computed.append((time.process_time() - began) * 1000)
    numbers = [
        value
        for times in (taken, computed)
        for value in (statistics.median(times), statistics.quantiles(times, n=20)[-1])
    ]
    print(f"{name:<26}{len(taken):>6}" + "".join(f"{one:>10.1f}" for one in numbers), flush=True)


def first(what: str, ask: Callable[[], object]) -> None:
    """What the first call of its kind takes, and what it leaves in memory."""
    before, started = resident_mib(), time.perf_counter()
    ask()
    seconds = time.perf_counter() - started
    print(f"first {what}: {seconds:.2f} s, {resident_mib() - before:+.0f} MiB")


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def latencies(index: CatalogIndex, products: pl.DataFrame, queries: int) -> None:
    rows = list(drawn(products, queries).iter_rows(named=True))
    cases: dict[str, Callable[[dict], object]] = {
        "by product id": lambda row: index.product(row["product_id"]),
        "by item code": lambda row: index.search(f"item {row['product_id'][:8]}"),
        "by name": lambda row: index.search(f"What is the fabric of {row['name']}?"),
        "by name with typos": lambda row: index.search(f"fabric of {misspelt(row['name'])}"),
        "by meaning": lambda row: index.search(f"something like {row['subcategory']} for a trip"),
        "by meaning, filtered": lambda row: index.search(
            f"{row['subcategory']} for a trip",
            filters=ProductFilter(subcategory=row["subcategory"], min_price=300),
        ),
        "alternatives": lambda row: index.alternatives(row["product_id"]),
        "complements": lambda row: index.complements(row["product_id"]),
    }
    print()
    first("query (reads the names)", lambda: index.mentioned("item none"))
    first("record", lambda: index.product(products["product_id"][0]))
    first("suggestion", lambda: index.alternatives(products["product_id"][0]))
    embed(["loads the model"])
    print(f"\n{'query':<26}{HEAD}")
    for name, ask in cases.items():
        line(name, (partial(ask, row) for row in rows))


def turns(index: CatalogIndex, products: pl.DataFrame, queries: int) -> None:
    """Messages of shoppers, understood and looked up as the assistant does, each the first one.

    No product is asked about twice: what was suggested for it would be known.
    """
    shop = Shop(index, "benchmark")
    kinds = {
        "attribute of a product": "What is the fabric of {name}?",
        "overview of a product": "Tell me about {name}.",
        "instead of a product": "Do you have something similar to {name}?",
        "to wear with a product": "What goes with {name}?",
        "name with typos": "What is the fabric of {misspelt}?",
        "search": "Show me {subcategory} under 1500",
        "free words": "I want something for my {person} at the {place}",
    }
    rows = list(drawn(products, queries * len(kinds)).iter_rows(named=True))
    print()
    first("turns (warm-up)", shop.warm_up)
    print(f"\n{'turn':<26}{HEAD}")
    for number, (name, text) in enumerate(kinds.items()):
        asked = [
            text.format(**row, misspelt=misspelt(row["name"]), person=person, place=place)
            for row, (person, place) in zip(
                rows[number :: len(kinds)], itertools.cycle(FREE_WORDS), strict=False
            )
        ]
        line(name, (partial(shop.plan, [{"role": "user", "content": one}]) for one in asked))


def quality(index: CatalogIndex) -> None:
    started = time.perf_counter()
    found = suggestion_quality(index)
    seconds = time.perf_counter() - started
    print(f"\nsuggestions for {found.sample} products, {found.k} each ({seconds:.1f} s)")
    print(f"{'':<32}{'alternatives':>18}{'complements':>18}")
    kinds = [found.alternatives, found.complements]
    table = {
        "products with a suggestion": [_share(kind.covered) for kind in kinds],
        "valid": [_share(kind.valid) for kind in kinds],
        "valid at random": [_share(kind.valid_at_random) for kind in kinds],
        "price ratio, median": [_number(kind.closeness.price_ratio) for kind in kinds],
        "price ratio at random": [_number(kind.closeness_at_random.price_ratio) for kind in kinds],
        "same brand": [_share(kind.closeness.same_brand) for kind in kinds],
        "same brand at random": [_share(kind.closeness_at_random.same_brand) for kind in kinds],
        "attribute values shared": [_number(kind.closeness.shared_attributes) for kind in kinds],
        "attribute values at random": [
            _number(kind.closeness_at_random.shared_attributes) for kind in kinds
        ],
    }
    for name, values in table.items():
        print(f"{name:<32}" + "".join(f"{value:>18}" for value in values))


def _share(share) -> str:
    return "-" if share.rate is None else f"{share.rate:.1%} of {share.of}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalog", nargs="?", default=str(EMBEDDED_CATALOG))
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--index", type=Path, help="An index of the catalog that is built already.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        products = assortment(arguments.catalog, folder)
        print(f"{products.height} products of {arguments.catalog}\n")
        full = arguments.index or build_times(products, folder, arguments.changed)
        index = CatalogIndex.open(full)
        latencies(index, products, arguments.queries)
        turns(index, products, arguments.queries)
        quality(index)


if __name__ == "__main__":
    main()
