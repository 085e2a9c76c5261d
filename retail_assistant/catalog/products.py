"""Raw catalog rows as product rows: what can be said of one row without looking at another.

``tidy_rows`` reads the columns; ``with_content_hash`` and ``validated`` take the rows that can be
products. What needs the whole catalog, such as repeated ids, is decided in clean.py.
"""

from itertools import pairwise

import dataframely as dy
import numpy as np
import polars as pl

from retail_assistant.catalog.keywords import keywords_of
from retail_assistant.catalog.ragged import (
    Ragged,
    as_lists,
    encoded,
    flattened,
    offsets_of,
    with_replaced,
)
from retail_assistant.catalog.schema import SOURCE_ROW, ProductSchema
from retail_assistant.catalog.specifications import attributes_of
from retail_assistant.catalog.text import has_entities, plain, without_escapes

_PRICE = r"(?i)^(?:rs\.?|inr|₹)?\s*([0-9][0-9,]*(?:\.[0-9]+)?)\s*(?:/-)?$"
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
    """A product by itself, its id and hash being what they must be.

    All of ``ProductSchema`` but that no other row has its id, that the id is of the right form (see
    clean.py, which says so in other words) and that the hash is one.
    """

    product_id = dy.String(nullable=False)
    content_hash = dy.String(nullable=False)


def tidy_rows(raw: pl.DataFrame) -> pl.DataFrame:
    """Return the product columns, less content_hash, of each row of ``raw`` (RAW_COLUMNS).

    Nothing is judged yet: ``product_id``, ``name`` and ``department`` may be null here.
    """
    # No lazy query: polars would run these functions on threads that wait for the interpreter.
    description = plain(raw["description"])
    categories = category_levels(raw["category_tree"])
    levels = (categories.list.get(level, null_on_oob=True) for level in range(3))
    columns = {
        "product_id": plain(raw["product_id"]),
        "name": plain(raw["name"]),
        "brand": plain(raw["brand"]),
        "description": description,
        "description_keywords": keywords_of(description),
        "categories": categories,
        **dict(zip(("department", "category", "subcategory"), levels, strict=True)),
        "attributes": attributes_of(raw["specifications"]),
        "image_urls": image_urls(raw["images"]),
        "retail_price": prices(raw["retail_price"]),
        "discounted_price": prices(raw["discounted_price"]),
        SOURCE_ROW: raw[SOURCE_ROW],
    }
    return pl.DataFrame(columns).select(name for name in _PRODUCT_COLUMNS if name in columns)


def category_levels(trees: pl.Series) -> pl.Series:
    """Return the levels of ``trees`` (str, ``["A >> B >> C"]``) as list[str], never null.

    Of several trees the first counts. A last level that ends in "..." is a product name that was
    cut and is dropped, unless it is the only level: then the row would lose its department, and
    it is kept without the mark. (44 of the 999 real rows have no level but a product name; they
    keep it as their department, which no assortment selects.)
    """
    is_regular = trees.str.contains(_REGULAR_TREE) & ~trees.is_in(['["nil"]', '["null"]'])
    others = (~is_regular.fill_null(value=False)).arg_true()
    tree = pl.col("tree").str.strip_prefix('["').str.strip_suffix('"]')
    levels = trees.to_frame("tree").select(tree.str.split(" >> ")).to_series().alias(trees.name)
    if others.is_empty():
        return levels
    return with_replaced(levels, others.to_numpy(), _read_levels(trees.gather(others)))


def image_urls(texts: pl.Series) -> pl.Series:
    """Return the http(s) URLs in ``texts`` (str, a JSON list or what is left), each once."""
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


def prices(texts: pl.Series) -> pl.Series:
    """Return ``texts`` (str: "1299", "Rs. 1,299.00", "₹1299/-") as rupees (f64).

    Null where it is no amount above zero.
    """
    codes, distinct = encoded(texts.fill_null(""))
    digits = plain(distinct).str.extract(_PRICE).str.replace_all(",", "", literal=True)
    amounts = digits.cast(pl.Float64, strict=False)
    usable = amounts.set(~(amounts.is_finite() & (amounts > 0)).fill_null(value=False), None)
    return usable.gather(pl.Series(codes)).alias(texts.name)


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


def _read_levels(trees: pl.Series) -> pl.Series:
    levels, rows = flattened(_first_tree(trees).str.split(">>"))
    codes, distinct = encoded(levels)
    level, dots = pl.col("level"), pl.col("level").str.ends_with("...")
    whole = pl.when(dots).then(level.str.strip_suffix("...")).otherwise(level.str.strip_suffix("…"))
    read = (
        distinct.str.strip_chars()
        .to_frame("level")
        .select(
            whole.str.strip_chars_end(),
            is_stated=level.str.contains(r"[\p{L}\p{N}]"),
            is_cut=dots | level.str.ends_with("…"),
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
    tree = pl.col("tree").str.strip_prefix("[").str.strip_chars_start().str.strip_prefix('"')
    inner = tree.str.strip_suffix("]").str.strip_chars_end().str.strip_suffix('"')
    bare = whole.to_frame("tree").select(inner.fill_null("")).to_series()
    return bare.set(bare.is_in(["nil", "null"]), "")


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
