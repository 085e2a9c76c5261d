"""Splitting products into train, validation and test before anything is generated from them.

Shops list the same garment many times (sizes, colours, re-listings): in the public sample 67% of
clothing rows share a name with another row. Near duplicates therefore always stay on one side.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import polars as pl

from retail_assistant.corpus.draws import stable_digest, stable_fraction

SPLIT_NAMES = ("train", "validation", "test")
DEFAULT_SHARES = (0.8, 0.1, 0.1)
NEAR_DUPLICATE_SIMILARITY = 0.8

_MINIMUM_VALIDATION_PRODUCTS = 4
_VALIDATION_SHARE_OF_TRAIN = 0.1
# The banding of the hash table is tuned below the wanted similarity, where it still finds nearly
# every pair; each pair found is then measured exactly.
_CANDIDATE_SIMILARITY = 0.6
_PERMUTATIONS = 128

_SPLIT_SCHEMA = {"product_id": pl.String, "cluster_id": pl.String, "split": pl.String}


def near_duplicate_clusters(
    products: pl.DataFrame, *, similarity: float = NEAR_DUPLICATE_SIMILARITY
) -> pl.DataFrame:
    """Which products are the same thing listed again.

    Two products belong together when their names are equal (up to case and punctuation), or when
    the Jaccard similarity of their name words and attributes is at least `similarity`; clusters are
    the connected components of that relation. Candidates come from MinHash locality-sensitive
    hashing (Broder 1997; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3).

    Returns product_id, cluster_id (the smallest product_id of the cluster), sorted by product_id.
    """
    import networkx

    described = products.select("product_id", name=_plain_name(), terms=_describing_terms())
    graph = networkx.Graph()
    graph.add_nodes_from(described["product_id"])
    graph.add_edges_from(_same_name_pairs(described))
    graph.add_edges_from(_similar_pairs(described, similarity))
    rows = [
        (product_id, min(cluster))
        for cluster in networkx.connected_components(graph)
        for product_id in cluster
    ]
    schema = {"product_id": pl.String, "cluster_id": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("product_id")


def split_products(
    products: pl.DataFrame, *, seed: int, shares: Sequence[float] = DEFAULT_SHARES
) -> pl.DataFrame:
    """Which side each product is on; `shares` are those of train, validation and test.

    A cluster's side is drawn from a hash of the seed and its id, so a product does not change
    sides when unrelated products come or go; the shares are met on average, not exactly.

    Returns product_id, cluster_id, split, sorted by product_id. Raises ValueError for shares that
    are not three non-negative numbers with the sum 1.
    """
    if len(shares) != len(SPLIT_NAMES) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"shares={tuple(shares)!r} must be three non-negative numbers with the sum 1,"
            " for train, validation and test"
        )
    clusters = near_duplicate_clusters(products)
    ids = clusters["cluster_id"].unique().sort().to_list()
    sides = pl.DataFrame(
        [(cluster_id, _side(cluster_id, seed, shares)) for cluster_id in ids],
        schema={"cluster_id": pl.String, "split": pl.String},
        orient="row",
    )
    joined = clusters.join(sides, on="cluster_id", how="left")
    return joined.select(list(_SPLIT_SCHEMA)).sort("product_id")


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


def _plain_name() -> pl.Expr:
    letters_and_digits = pl.col("name").str.to_lowercase().str.replace_all(r"[\W_]+", " ")
    return letters_and_digits.str.strip_chars()


def _describing_terms() -> pl.Expr:
    """The distinct words of a product's name, and its attributes as "name=value", sorted.

    Whole attributes count, not their words: else the names that all tops share ("Sleeve", "Fabric")
    would make strangers look alike.
    """
    attributes = pl.col("attributes").list.eval(
        pl.concat_str(
            pl.element().struct.field("name").fill_null(""),
            pl.element().struct.field("value"),
            separator="=",
        ).str.to_lowercase()
    )
    words = pl.col("name").str.to_lowercase().str.extract_all(r"\w+")
    return pl.concat_list(words, attributes.fill_null([])).list.unique().list.sort()


def _same_name_pairs(products: pl.DataFrame) -> Iterator[tuple[str, str]]:
    groups = products.group_by("name").agg(pl.col("product_id").sort()).sort("name")
    for ids in groups["product_id"].to_list():
        yield from pairwise(ids)


def _similar_pairs(products: pl.DataFrame, similarity: float) -> Iterator[tuple[str, str]]:
    """Pairs of ids whose term sets are at least that similar; one product stands for its name."""
    from datasketch import MinHash, MinHashLSH

    distinct = products.sort("product_id").unique(
        ["name", "terms"], keep="first", maintain_order=True
    )
    sets = {row["product_id"]: frozenset(row["terms"]) for row in distinct.iter_rows(named=True)}
    encoded = ([term.encode() for term in sorted(found)] for found in sets.values())
    sketches = MinHash.bulk(encoded, num_perm=_PERMUTATIONS, seed=1)
    index = MinHashLSH(threshold=_CANDIDATE_SIMILARITY, num_perm=_PERMUTATIONS)
    for (product_id, found), sketch in zip(sets.items(), sketches, strict=True):
        for other in index.query(sketch):
            if _jaccard(found, sets[other]) >= similarity:
                yield other, product_id
        index.insert(product_id, sketch)


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    union = len(left | right)
    return len(left & right) / union if union else 0.0


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
