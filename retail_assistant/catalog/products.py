"""Raw catalog rows as product rows: what can be said of one row without looking at another.

``tidy_rows`` reads the columns; ``with_content_hash`` and ``validated`` take the rows that can be
products. What needs the whole catalog, such as repeated ids, is decided in clean.py.
"""

from itertools import pairwise

import dataframely as dy
import numpy as np
import polars as pl

from retail_assistant.catalog.keywords import keywords
from retail_assistant.catalog.ragged import (
    Ragged,
    as_lists,
    encoded,
    flattened,
    offsets_of,
    with_replaced,
)
from retail_assistant.catalog.schema import PRODUCT_ID_PATTERN, SOURCE_ROW, ProductSchema
from retail_assistant.catalog.specifications import parsed_specifications
from retail_assistant.catalog.text import has_entities, plain, plain_text, without_escapes

_PRICE = r"(?i)^(?:rs\.?|inr|₹)?\s*([0-9][0-9,]*(?:\.[0-9]+)?)\s*(?:/-)?$"
_TRUNCATED = r"(?:\.{3}|…)$"
_URL = r"""(?i)https?://[^\s"'<>\\\]\[{}]+"""
_PRODUCT_COLUMNS = tuple(ProductSchema.column_names())
# One tree in ASCII, its levels as they shall be: each begins with a letter or digit, has single
# spaces, nothing that `plain` or `without_escapes` would change, and no mark of a cut at its end.
_LEVEL = "[0-9A-Za-z](?:(?:(?: & | ?)[!#-%'-;=?-\\[\\]-~])*(?: & | ?)[!#-%'-\\-/-;=?-\\[\\]-~])?"
_REGULAR_TREE = rf'^\["{_LEVEL}(?: >> {_LEVEL})*"\]$'
# A JSON list of URLs without white space, none of them with a comma or semicolon at its end.
_URL_IN_LIST = r'"(?i:https?)://[!#-&(-;=?-Z^-z|~]*[!#-&(-+\--:=?-Z^-z|~]"'
_REGULAR_IMAGES = rf"^\[{_URL_IN_LIST}(?:, {_URL_IN_LIST})*\]$"


class ProductRowSchema(ProductSchema):
    """A product by itself: all of ``ProductSchema`` but that no other row has its id."""

    product_id = dy.String(nullable=False, regex=PRODUCT_ID_PATTERN)


def tidy_rows(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Return the product columns, less content_hash, of each row of ``raw`` (RAW_COLUMNS).

    Nothing is judged yet: ``product_id``, ``name`` and ``department`` may be null here.
    """
    return (
        raw.select(
            plain_text(pl.col("product_id")),
            plain_text(pl.col("name")),
            plain_text(pl.col("brand")),
            plain_text(pl.col("description")),
            category_levels(pl.col("category_tree")).alias("categories"),
            parsed_specifications(pl.col("specifications")).alias("attributes"),
            image_urls(pl.col("images")).alias("image_urls"),
            price(pl.col("retail_price")),
            price(pl.col("discounted_price")),
            pl.col(SOURCE_ROW),
        )
        .with_columns(
            keywords(pl.col("description")).alias("description_keywords"),
            *(
                pl.col("categories").list.get(level, null_on_oob=True).alias(name)
                for level, name in enumerate(("department", "category", "subcategory"))
            ),
        )
        .select(name for name in _PRODUCT_COLUMNS if name != "content_hash")
    )


def category_levels(tree: pl.Expr) -> pl.Expr:
    """Return the levels of a category ``tree`` (str, ``["A >> B >> C"]``) as list[str], never null.

    Of several trees the first counts. A last level that ends in "..." is a product name that was
    cut and is dropped, unless it is the only level: then the row would lose its department, and
    it is kept without the mark. (44 of the 999 real rows have no level but a product name; they
    keep it as their department, which no assortment selects.)
    """
    return tree.map_batches(_levels, return_dtype=pl.List(pl.String), is_elementwise=True)


def image_urls(text: pl.Expr) -> pl.Expr:
    """Return the http(s) URLs in ``text`` (str, a JSON list or what is left of one), each once."""
    return text.map_batches(_urls, return_dtype=pl.List(pl.String), is_elementwise=True)


def price(text: pl.Expr) -> pl.Expr:
    """Return ``text`` (str: "1299", "Rs. 1,299.00", "₹1299/-") as rupees (f64).

    Null where it is no amount above zero.
    """
    return text.map_batches(_amounts, return_dtype=pl.Float64, is_elementwise=True)


def with_content_hash(products: pl.DataFrame) -> pl.DataFrame:
    """Return ``products`` in the schema's columns, with ``content_hash``.

    That is XXH3-128 (128 bits, not cryptographic) of a product's fields but ``source_row``, written
    as UTF-8 in a fixed form. It stays the same from version to version of every library here.
    """
    import xxhash

    # As bytes in one buffer: a Python string for each row would cost more than its hash.
    texts = _canonical(products).rechunk().to_arrow()
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset :][: len(texts) + 1].tolist()
    octets = memoryview(data if data is not None else b"")
    digest = xxhash.xxh3_128_hexdigest
    hashes = [digest(octets[start:end]) for start, end in pairwise(ends)]
    column = pl.Series("content_hash", hashes, dtype=pl.String)
    return products.with_columns(column).select(_PRODUCT_COLUMNS)


def validated(products: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that the schema accepts, and (source_row, …, detail) of the others.

    Each row is taken by itself: ids may come twice.
    """
    accepted, failure = ProductRowSchema.filter(products)
    valid = accepted.select(_PRODUCT_COLUMNS)
    rules = sorted(failure.counts())
    if not rules:
        return valid, _no_rejections()
    # A rule is named "<column>|<what>" by dataframely; only the column goes into the reason.
    failed = [
        pl.when(pl.col(rule) == "invalid").then(pl.lit(rule.split("|")[0])).alias(f"_{rule}")
        for rule in rules
    ]
    columns = [f"_{rule}" for rule in rules]
    invalid = failure.details().select(SOURCE_ROW, "product_id", *failed)
    return valid, invalid.select(
        SOURCE_ROW,
        "product_id",
        pl.concat_str(pl.lit("invalid_"), pl.coalesce(columns)).alias("reason"),
        pl.format(
            "refused by the product schema: {}",
            pl.concat_list(columns)
            .list.drop_nulls()
            .list.unique(maintain_order=True)
            .list.join(", "),
        ).alias("detail"),
    )


def _no_rejections() -> pl.DataFrame:
    texts = dict.fromkeys(("product_id", "reason", "detail"), pl.String)
    return pl.DataFrame(schema={SOURCE_ROW: pl.UInt32, **texts})


def _levels(trees: pl.Series) -> pl.Series:
    is_regular = trees.str.contains(_REGULAR_TREE) & ~trees.is_in(['["nil"]', '["null"]'])
    others = (~is_regular.fill_null(value=False)).arg_true()
    tree = pl.col("tree").str.strip_prefix('["').str.strip_suffix('"]')
    levels = trees.to_frame("tree").select(tree.str.split(" >> ")).to_series().alias(trees.name)
    if others.is_empty():
        return levels
    return with_replaced(levels, others.to_numpy(), _read_levels(trees.gather(others)))


def _read_levels(trees: pl.Series) -> pl.Series:
    levels, rows = flattened(_first_tree(trees).str.split(">>"))
    codes, distinct = encoded(levels)
    level = pl.col("level")
    read = (
        distinct.str.strip_chars()
        .to_frame("level")
        .select(
            level.str.replace(_TRUNCATED, "").str.strip_chars_end(),
            is_stated=level.str.contains(r"[\p{L}\p{N}]"),
            is_cut=level.str.contains(_TRUNCATED),
        )
    )
    stated = read["is_stated"].to_numpy()[codes]
    codes, rows = codes[stated], offsets_of(stated)[rows]
    last = rows[1:][np.diff(rows) > 1] - 1
    kept = np.ones(len(codes), dtype=bool)
    kept[last[read["is_cut"].to_numpy()[codes[last]]]] = False
    found = read["level"].gather(pl.Series(codes[kept]))
    return as_lists(Ragged(found, offsets_of(kept)[rows]))


def _first_tree(trees: pl.Series) -> pl.Series:
    """Return the text between the quotes of each tree, the first if there are several."""
    whole = plain(without_escapes(trees.str.replace(r'(?s)"\s*,\s*".*$', "")))
    inner = pl.col("tree").str.replace(r'^\s*\[?\s*"?', "").str.replace(r'"?\s*\]?\s*$', "")
    bare = whole.to_frame("tree").select(inner.fill_null("")).to_series()
    return bare.set(bare.is_in(["nil", "null"]), "")


def _urls(texts: pl.Series) -> pl.Series:
    is_regular = texts.str.contains(_REGULAR_IMAGES) & ~has_entities(texts)
    text = pl.col("text").str.strip_prefix('["').str.strip_suffix('"]')
    lists = texts.to_frame("text").select(text.str.split('", "')).to_series().alias(texts.name)
    urls = flattened(lists)
    # A null has no URLs, and as a list now it has none.
    others = (~is_regular.fill_null(value=True) | _repeating(urls)).arg_true()
    lists = as_lists(urls)
    if others.is_empty():
        return lists
    whole = plain(without_escapes(texts.gather(others))).fill_null("")
    read, rows = flattened(whole.str.extract_all(_URL))
    found = as_lists(Ragged(read.str.strip_chars_end(",;"), rows)).list.unique(maintain_order=True)
    return with_replaced(lists, others.to_numpy(), found)


def _repeating(lists: Ragged) -> pl.Series:
    """Which of ``lists`` (str) may hold a text twice; all that do are among them."""
    texts, offsets = lists
    row = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
    # A hash for the text in its row: spread by an odd factor, so that rows seldom meet.
    keys = pl.Series(texts.hash().to_numpy() ^ (row * np.uint64(0x9E3779B97F4A7C15)))
    found = np.zeros(len(offsets) - 1, dtype=bool)
    if keys.n_unique() < len(keys):
        found[row[keys.is_duplicated().to_numpy()].astype(np.int64)] = True
    return pl.Series(found)


def _amounts(texts: pl.Series) -> pl.Series:
    codes, distinct = encoded(texts.fill_null(""))
    digits = plain(distinct).str.extract(_PRICE).str.replace_all(",", "", literal=True)
    amounts = digits.cast(pl.Float64, strict=False)
    usable = amounts.set(~(amounts.is_finite() & (amounts > 0)).fill_null(value=False), None)
    return usable.gather(pl.Series(codes)).alias(texts.name)


def _canonical(products: pl.DataFrame) -> pl.Series:
    """Return each product as one text that no other product has.

    Fields are joined by control characters, of which clean text has none. The department, category
    and subcategory are levels of ``categories`` and not written again.
    """
    attributes, rows = flattened(products["attributes"])
    names = as_lists(Ragged(attributes.struct.field("name").fill_null("\0"), rows))
    values = as_lists(Ragged(attributes.struct.field("value"), rows))
    joined = pl.concat_str(
        *(pl.col(name).fill_null("\0") for name in ("product_id", "name", "brand", "description")),
        *(pl.col(name).list.join("\x1e") for name in ("description_keywords", "categories")),
        pl.col("image_urls").list.join("\x1e"),
        *(pl.lit(lists).list.join("\x1e") for lists in (names, values)),
        *(pl.lit(_bits(products[name])) for name in ("retail_price", "discounted_price")),
        separator="\x1f",
    )
    return products.select(joined.alias("text")).to_series()


def _bits(prices: pl.Series) -> pl.Series:
    """Return the bits of ``prices`` as text; a price is above zero, so zero stands for none."""
    return pl.Series(prices.fill_null(0.0).to_numpy().view(np.uint64)).cast(pl.String)
