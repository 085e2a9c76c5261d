"""Splitting products into train, validation and test before anything is generated from them.

Shops list the same garment many times (sizes, colours, re-listings): in the public sample 67% of
clothing rows share a name with another row. Near duplicates therefore always stay on one side, and
a product stays on the side it was on: what was once learned from is never asked about as unseen.
"""

from collections.abc import Sequence

import polars as pl

from retail_assistant.catalog.near_duplicates import near_duplicates
from retail_assistant.corpus.draws import stable_digest, stable_fraction

SPLIT_NAMES = ("train", "validation", "test")
APART = "apart"
"""On no side: a near duplicate of products on different sides."""
DEFAULT_SHARES = (0.8, 0.1, 0.1)

_MINIMUM_VALIDATION_PRODUCTS = 4
_VALIDATION_SHARE_OF_TRAIN = 0.1

SPLIT_SCHEMA = {
    "product_id": pl.String,
    "cluster_id": pl.String,
    "split": pl.String,
    "content_hash": pl.String,
    "seed": pl.Int64,
}


def split_products(
    products: pl.DataFrame,
    duplicates: pl.DataFrame | pl.LazyFrame | None = None,
    *,
    seed: int,
    shares: Sequence[float] = DEFAULT_SHARES,
    previous: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Which side each product is on; `shares` are those of train, validation and test.

    `duplicates` are the near duplicates (product_id, cluster_id) of the whole catalog, in which a
    product without a row is its own cluster; None looks for them among `products` alone.

    A new cluster's side is drawn from a hash of the seed and its id; the shares are met on average,
    not exactly. `previous` are the splits so far (those of another seed are ignored): a cluster
    with a product that was on a side is on that side. Where a new or edited product joins clusters
    of different sides, the others stay where they are, each side a cluster of its own, and that
    product is APART: neither learned from nor asked about.

    Returns the columns of SPLIT_SCHEMA, sorted by product_id. Raises ValueError for shares that are
    not three non-negative numbers with the sum 1.
    """
    if len(shares) != len(SPLIT_NAMES) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"shares={tuple(shares)!r} must be three non-negative numbers with the sum 1,"
            " for train, validation and test"
        )
    found = near_duplicates(products.lazy()) if duplicates is None else duplicates
    clusters = _clusters(products, found.lazy())
    ids = clusters["cluster_id"].unique().sort().to_list()
    drawn = pl.DataFrame(
        [(cluster_id, _side(cluster_id, seed, shares)) for cluster_id in ids],
        schema={"cluster_id": pl.String, "drawn": pl.String},
        orient="row",
    )
    joined = clusters.join(drawn, on="cluster_id", how="left")
    sided = _on_earlier_sides(joined, previous, seed)
    return (
        sided.with_columns(seed=pl.lit(seed, pl.Int64))
        .select(list(SPLIT_SCHEMA))
        .sort("product_id")
    )


def _on_earlier_sides(
    drawn: pl.DataFrame, previous: pl.DataFrame | None, seed: int
) -> pl.DataFrame:
    """The drawn clusters with their split: the drawn one, but for what was on a side before."""
    if previous is None or previous.schema != SPLIT_SCHEMA:  # there is none, or an older version's
        previous = pl.DataFrame(schema=SPLIT_SCHEMA)
    sides = previous.filter(pl.col("seed") == seed, pl.col("split").is_in(SPLIT_NAMES)).select(
        "product_id", earlier="split", earlier_hash="content_hash"
    )
    joined = drawn.join(sides, on="product_id", how="left")
    same = pl.col("content_hash") == pl.col("earlier_hash")
    earlier = pl.col("earlier")
    is_torn = earlier.drop_nulls().n_unique().over("cluster_id") > 1
    whole = pl.coalesce(earlier.drop_nulls().first().over("cluster_id"), "drawn")
    torn = pl.when(same).then(earlier).otherwise(pl.lit(APART))
    part = pl.format("{}/{}", "cluster_id", torn)
    return joined.with_columns(
        split=pl.when(is_torn).then(torn).otherwise(whole),
        cluster_id=pl.when(is_torn).then(part).otherwise("cluster_id"),
    )


def sample_products(
    products: pl.DataFrame,
    splits: pl.DataFrame,
    *,
    train: int | None,
    evaluation: int | None,
    seed: int,
) -> pl.DataFrame:
    """The products that dialogues are generated for: a stratified sample of each split.

    `train` and `evaluation` are the numbers of train and of test products, None means all;
    validation gets a tenth of the train products, at least four. Each number is shared out over
    the subcategories in proportion to their size (largest remainders, Hamilton's method); inside
    a subcategory products come in hash order, one of each near-duplicate cluster before a second
    of any. A split that holds fewer products gives what it has.

    Returns the columns of `products`, sorted by product_id. Raises ValueError for negative counts.
    """
    for name, count in (("train", train), ("evaluation", evaluation)):
        if count is not None and count < 0:
            raise ValueError(f"{name}={count} must be at least 0, or None for all products")
    validation = None
    if train is not None:
        share = round(_VALIDATION_SHARE_OF_TRAIN * train)
        validation = max(_MINIMUM_VALIDATION_PRODUCTS, share)
    wanted = {"train": train, "validation": validation, "test": evaluation}
    candidates = _drawing_order(products.join(splits, on="product_id", how="inner"), seed)
    parts = [
        _stratified(candidates.filter(pl.col("split") == split), count)
        for split, count in wanted.items()
    ]
    chosen = pl.concat(parts).select("product_id")
    return products.join(chosen, on="product_id", how="semi").sort("product_id")


def _clusters(products: pl.DataFrame, duplicates: pl.LazyFrame) -> pl.DataFrame:
    """product_id, cluster_id, content_hash; without a duplicate a product names its cluster."""
    found = duplicates.select("product_id", "cluster_id")
    joined = products.lazy().join(found, on="product_id", how="left")
    cluster = pl.coalesce("cluster_id", "product_id").alias("cluster_id")
    named = joined.select("product_id", cluster, "content_hash")
    return named.collect(engine="streaming")


def _side(cluster_id: str, seed: int, shares: Sequence[float]) -> str:
    drawn = stable_fraction("split", seed, cluster_id)
    if drawn < shares[0]:
        return "train"
    return "validation" if drawn < shares[0] + shares[1] else "test"


def _drawing_order(products: pl.DataFrame, seed: int) -> pl.DataFrame:
    """product_id, split, stratum and rank_in_cluster, in the order products are drawn."""
    digests = [stable_digest("sample", seed, product_id) for product_id in products["product_id"]]
    ordered = products.with_columns(pl.Series("draw", digests, dtype=pl.String)).sort("draw")
    stratum = pl.coalesce("subcategory", "category", "department").fill_null("")
    ranked = ordered.with_columns(
        stratum=stratum, rank_in_cluster=pl.int_range(pl.len()).over("cluster_id")
    )
    columns = ["product_id", "split", "stratum", "rank_in_cluster"]
    return ranked.sort("rank_in_cluster", "draw").select(columns)


def _stratified(candidates: pl.DataFrame, count: int | None) -> pl.DataFrame:
    if count is None or count >= candidates.height:
        return candidates
    first_of_cluster = candidates.filter(pl.col("rank_in_cluster") == 0)
    if first_of_cluster.height >= count:
        candidates = first_of_cluster
    quotas = _quotas(candidates, count)
    position = pl.int_range(pl.len()).over("stratum")
    placed = candidates.with_columns(position=position).join(quotas, on="stratum")
    return placed.filter(pl.col("position") < pl.col("quota")).select(candidates.columns)


def _quotas(candidates: pl.DataFrame, count: int) -> pl.DataFrame:
    """stratum, quota: `count` shared out in proportion, leftovers to the largest remainders."""
    exact = pl.col("len") * count / candidates.height
    sizes = candidates.group_by("stratum").len().with_columns(whole=exact.floor(), exact=exact)
    by_remainder = sizes.with_columns(left=pl.col("exact") - pl.col("whole")).sort(
        ["left", "len", "stratum"], descending=[True, True, False]
    )
    spare = count - int(by_remainder["whole"].sum())
    extra = (pl.int_range(pl.len()) < spare).cast(pl.Int64)
    return by_remainder.select("stratum", quota=pl.col("whole").cast(pl.Int64) + extra)
