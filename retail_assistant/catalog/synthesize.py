"""An invented catalog in the public Flipkart schema: any size, the same for the same seed.

Every cell is a function of (seed, field, row) by the counter-based generator Philox (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC11), of which NumPy keeps the raw stream fixed. So
the first N rows are the same in a catalog of any length and on any platform.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_assistant.catalog.dirt import DIRT_KINDS, with_defects
from retail_assistant.catalog.full_length import full_length
from retail_assistant.catalog.schema import FLIPKART_COLUMNS
from retail_assistant.catalog.vocabulary import (
    ASSORTMENT,
    BRAND_ENDS,
    BRAND_STARTS,
    FAMILIES,
    KEYS,
    MORE_SENTENCES,
    NAME_SHARES,
    SENTENCES,
    VALUES,
)

CHUNK_ROWS = 1 << 16
SAME_NAME_SHARE = 0.13
"""Share of rows that take an earlier row's name; about twice as many rows then share a name."""

_MARK = re.compile(r"\{(\w+)\}")

Draw = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.intp]


def synthesize(
    rows: int, seed: int, dirt: float = 0.05, *, long: bool = False
) -> Iterator[pl.DataFrame]:
    """Yield ``rows`` invented catalog rows in frames of the 15 text columns.

    ``long`` makes them as long as real ones (see full_length.py); otherwise they are half as long.
    ``dirt`` is the share of rows with one of ``DIRT_KINDS``. Independent of it, about a quarter of
    the clothing rows share a name with another one, and some specification entries have no key.
    Raises ValueError for a negative row count or seed, or for dirt outside 0 to 1.
    """
    if rows < 0 or not 0 <= seed < 1 << 64 or not 0.0 <= dirt <= 1.0:
        raise ValueError(
            f"rows={rows}, seed={seed}, dirt={dirt}: allowed are rows >= 0, seed from 0 to 2**64-1 "
            "and dirt from 0 to 1"
        )
    for first in range(0, rows, CHUNK_ROWS):
        yield _chunk(_Draws(seed, first, min(CHUNK_ROWS, rows - first)), dirt, long=long)


def write_catalog(
    path: Path, rows: int, seed: int, dirt: float = 0.05, *, long: bool = False
) -> None:
    """Write ``synthesize(rows, seed, dirt, long=long)`` to ``path`` as CSV, whole or not at all."""
    header = pl.DataFrame(schema=dict.fromkeys(FLIPKART_COLUMNS, pl.String)).write_csv()
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        whole = Path(folder) / path.name
        with whole.open("wb") as file:
            file.write(header.encode())
            for frame in synthesize(rows, seed, dirt, long=long):
                frame.write_csv(file, include_header=False)
        whole.replace(path)


class _Draws:
    """Random draws for ``count`` rows from row ``first`` on, one stream for each field."""

    def __init__(self, seed: int, first: int, count: int) -> None:
        self.seed, self.first, self.count = seed, first, count

    def raw(self, field: str) -> Draw:
        # Philox makes four numbers a step; CHUNK_ROWS is a multiple of four.
        generator = np.random.Philox(
            key=[self.seed, crc32(field.encode())], counter=self.first // 4
        )
        return generator.random_raw(self.count)

    def pick(self, field: str, choices: int) -> Rows:
        return (((self.raw(field) >> 32) * np.uint64(choices)) >> 32).astype(np.intp)

    def chance(self, field: str, share: float) -> npt.NDArray[np.bool_]:
        return (self.raw(field) >> 11) * 2.0**-53 < share

    def earlier(self, field: str) -> Rows:
        """An earlier row of the chunk for every row; row 0 gets itself."""
        position = np.arange(self.count, dtype=np.uint64)
        return (((self.raw(field) >> 32) * position) >> 32).astype(np.intp)


@cache
def _product_types() -> pl.DataFrame:
    lines = [line.split("|") for line in ASSORTMENT.strip().splitlines()]
    names = ("department", "category", "subcategory", "audience", "family", "type", "weight")
    table = pl.DataFrame(lines, schema=names, orient="row").with_columns(
        pl.col("type").str.split(","),
        pl.col("weight").cast(pl.Int64),
        pl.col("audience").replace({"": None}),
    )
    # As many copies of a line as its weight, times 12 (which 2, 3 and 4 types divide).
    shares = 12 * pl.col("weight") // pl.col("type").list.len()
    weighted = table.with_columns(shares.alias("weight")).explode("type")
    repeated = weighted.select(pl.exclude("weight").repeat_by("weight"))
    return repeated.explode(repeated.columns)


def _brands() -> pl.Series:
    ends = BRAND_ENDS.split(",")
    return pl.Series("brand", [start + end for end in ends for start in BRAND_STARTS.split(",")])


def _named_after(draws: _Draws) -> Rows:
    """For every row the row whose name it has: itself, or an earlier row that has its own name."""
    own = np.arange(draws.count)
    source = np.where(draws.chance("same name", SAME_NAME_SHARE), draws.earlier("name source"), own)
    while not np.array_equal(source, source[source]):
        source = source[source]
    return source


def _chunk(draws: _Draws, dirt: float, *, long: bool) -> pl.DataFrame:
    source = _named_after(draws)
    types = _product_types()
    brands = _brands()
    # The square makes some brands common and most rare.
    popularity = ((draws.raw("brand") >> 11) * 2.0**-53) ** 2
    brand = (popularity * len(brands)).astype(np.intp)[source]
    base = types[draws.pick("type", types.height)[source]].with_columns(
        brands[brand],
        pl.Series("uniq_id", _hex_ids(draws)),
        pl.Series("row", np.arange(draws.count)),
        pl.Series("code", draws.pick("code", 9000) + 1000),
    )
    families = [
        _with_attributes(rows, draws, source)
        for _, rows in sorted(base.partition_by("family", as_dict=True).items())
    ]
    whole = _with_other_columns(pl.concat(families).sort("row"), draws).select(FLIPKART_COLUMNS)
    if long:
        whole = full_length(whole, draws.pick)
    kinds = pl.Series(DIRT_KINDS)[draws.pick("dirt kind", len(DIRT_KINDS))]
    clean = pl.Series([None], dtype=pl.String)
    defects = kinds.zip_with(pl.Series(draws.chance("dirty", dirt)), clean)
    other_ids = whole["uniq_id"][draws.earlier("same id")]
    return with_defects(whole, defects, other_ids)


def _hex_ids(draws: _Draws) -> list[str]:
    parts = np.stack([draws.raw("id high"), draws.raw("id low")], axis=1).astype(">u8")
    digits = parts.tobytes().hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def _with_attributes(rows: pl.DataFrame, draws: _Draws, source: Rows) -> pl.DataFrame:
    """Add ``entries`` (list[str]), ``name`` and what the description says, for one family."""
    family = rows["family"][0]
    own = rows["row"].to_numpy()
    named = source[own]
    slots = FAMILIES[family].split(",")
    always = 4 if rows["audience"].null_count() == 0 else 5
    values: dict[str, pl.Series] = {}
    for position, slot in enumerate(slots):
        alternatives = slot.split("~")
        kept = draws.chance(f"kept {position}", 1.0 if position < always else 0.6)[named]
        chosen = draws.pick(f"slot {position}", len(alternatives))[named]
        for number, attribute in enumerate(alternatives):
            # What may stand in the name is drawn with the name, the rest for each product.
            drawn_for = named if attribute in NAME_SHARES else own
            text = _values(rows, family, attribute, draws, drawn_for)
            stated = pl.Series(kept & (chosen == number))
            values[attribute] = text.zip_with(stated, pl.Series([None], dtype=pl.String))
    stated_in_name = [
        values[attribute].zip_with(
            pl.Series(draws.chance(f"name {attribute}", share)[named]),
            pl.Series([None], dtype=pl.String),
        )
        for attribute, share in NAME_SHARES.items()
        if attribute in values
    ]
    entries = [_entry(KEYS.get(name, name), text) for name, text in values.items()]
    fixed = [_entry("Type", rows["type"]), _entry("Ideal For", rows["audience"])]
    return rows.with_columns(
        pl.concat_list(*entries[:2], *fixed, *entries[2:]).list.drop_nulls().alias("entries"),
        pl.concat_str(
            [rows["brand"], *stated_in_name, rows["audience"], rows["type"]],
            separator=" ",
            ignore_nulls=True,
        ).alias("product_name"),
        values[slots[0]].alias("material"),
        values[slots[1]].alias("color"),
    )


def _values(
    rows: pl.DataFrame, family: str, attribute: str, draws: _Draws, drawn_for: Rows
) -> pl.Series:
    if attribute == "Style Code":
        code = pl.concat_str(
            pl.col("brand").str.slice(0, 3).str.to_uppercase(), "code", separator="-"
        )
        return rows.select(code).to_series()
    if attribute == "@box":
        return rows.select(pl.concat_str(pl.lit("1 "), "type")).to_series()
    choices = pl.Series(VALUES.get(f"{family}:{attribute}", VALUES.get(attribute, "")).split(","))
    return choices[draws.pick(f"value {attribute}", len(choices))[drawn_for]]


def _entry(key: str, value: pl.Series) -> pl.Expr:
    opening = '{"value"=>"' if key == "@box" else f'{{"key"=>"{key}", "value"=>"'
    return pl.concat_str(pl.lit(opening), pl.lit(value), pl.lit('"}'))


def _with_other_columns(rows: pl.DataFrame, draws: _Draws) -> pl.DataFrame:
    retail = draws.pick("retail", 40) * 100 + 299
    discounted = retail * (draws.pick("discount", 65) + 35) // 100
    return (
        rows.with_columns(
            pl.Series("retail_price", retail).cast(pl.String),
            pl.Series("discounted_price", discounted).cast(pl.String),
            pl.col("uniq_id").str.slice(0, 13).str.to_uppercase().alias("pid"),
            pl.Series("rated", draws.chance("rated", 0.2)),
            pl.Series("rating", (draws.pick("rating", 31) + 20) / 10).cast(pl.String),
            _timestamps(draws),
            _tree(draws).alias("product_category_tree"),
            _images(draws).alias("image"),
            _description(draws).alias("description"),
            _slug(pl.col("product_name")).alias("slug"),
            pl.Series(draws.chance("advantage", 0.05)).alias("advantage"),
            _specification(pl.col("entries")).alias("product_specifications"),
        )
        .with_columns(
            pl.when("rated").then("rating").otherwise(pl.lit("No rating available")).alias("rating")
        )
        .with_columns(
            pl.format("https://shop.example.com/{}/p/{}", "slug", "pid").alias("product_url"),
            pl.col("rating").alias("product_rating"),
            pl.col("rating").alias("overall_rating"),
            pl.when("advantage")
            .then(pl.lit("TRUE"))
            .otherwise(pl.lit("FALSE"))
            .alias("is_FK_Advantage_product"),
        )
    )


def _timestamps(draws: _Draws) -> pl.Expr:
    second = pl.Series(draws.pick("crawled", 180 * 86_400)).cast(pl.Int64)
    start = pl.datetime(2026, 1, 1)
    moment = start + pl.duration(seconds=pl.lit(second))
    return moment.dt.strftime("%Y-%m-%d %H:%M:%S +0000").alias("crawl_timestamp")


def _tree(draws: _Draws) -> pl.Expr:
    """Five levels, in some rows the product name as a sixth, cut at 50 characters as in life."""
    name = pl.col("product_name")
    cut = pl.when(name.str.len_chars() > 50).then(name.str.slice(0, 47) + "...").otherwise(name)
    last = pl.when(pl.lit(pl.Series(draws.chance("name in tree", 0.5)))).then(cut)
    brand_level = pl.format("{} {}", "brand", "type")
    levels = ["department", "category", "subcategory", "type", brand_level, last]
    joined = pl.concat_str(levels, separator=" >> ", ignore_nulls=True)
    return pl.concat_str(pl.lit('["'), joined, pl.lit('"]'))


def _images(draws: _Draws) -> pl.Expr:
    count = pl.lit(pl.Series(draws.pick("images", 5) + 1))
    folder = pl.format(
        '"https://images.example.com/{}/{}',
        _slug(pl.col("type")),
        pl.col("uniq_id").str.slice(0, 12),
    )
    urls = [pl.when(count >= n).then(folder + f'-{n}.jpeg"') for n in range(1, 6)]
    return pl.concat_str(
        pl.lit("["), pl.concat_str(urls, separator=", ", ignore_nulls=True), pl.lit("]")
    )


def _description(draws: _Draws) -> pl.Expr:
    which = pl.lit(pl.Series(draws.pick("sentence", len(SENTENCES))))
    first = pl.coalesce(
        pl.when(which == number).then(_filled(sentence))
        for number, sentence in enumerate(SENTENCES)
    )
    more = [
        pl.when(pl.lit(pl.Series(draws.chance(f"more {n}", 0.6)))).then(
            pl.lit(pl.Series(MORE_SENTENCES)[draws.pick(f"more text {n}", len(MORE_SENTENCES))])
        )
        for n in range(2)
    ]
    # The same sentence drawn twice is said once.
    second = pl.when(more[1] != more[0].fill_null("")).then(more[1])
    return pl.concat_str([first, more[0], second], separator=" ", ignore_nulls=True)


def _filled(sentence: str) -> pl.Expr:
    columns = _MARK.findall(sentence)
    words = [
        pl.col(name) if name == "brand" else pl.col(name).str.to_lowercase() for name in columns
    ]
    return pl.format(_MARK.sub("{}", sentence), *words)


def _slug(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "-")


def _specification(entries: pl.Expr) -> pl.Expr:
    return pl.concat_str(
        pl.lit('{"product_specification"=>['), entries.list.join(", "), pl.lit("]}")
    )
