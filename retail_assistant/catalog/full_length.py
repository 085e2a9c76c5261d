"""Invented rows made as long as real ones, for measuring: what cleaning costs depends on it.

The shapes and their shares are those of the 999 public rows: a list of the specifications, a price
and the prose said twice amid white space, an offer, plain prose. Means: docs/catalog.md.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

Pick = Callable[[str, int], np.ndarray]
"""Draws a number below the second argument for each row; the first names the draw."""

IMAGES = 7
_SHAPES = ("listed", "priced", "offered", "prose")
_SHARES = (25, 33, 17, 25)
_PACKAGES = ("1 Product", "1 Product, 1 Pouch", "2 Pieces", "Product & Manual", "1 Set, 1 Box")
_FEATURES = (
    "Colour Fast, Skin Friendly, Light Weight, Made in Small Batches",
    "Easy to Wash, Quick to Dry, Needs No Ironing",
    "Hand Finished Seams, Reinforced Corners and a Soft Inner Side",
    "Free of Harmful Dyes, Tested for Daily Use, Fits in a Small Bag",
    "Water Repellent, Does Not Fade",
)
_SENTENCES = (
    "A present for those who have most things and like to use what they have.",
    "Wear it to work, to a wedding or on the way to the market in the rain.",
    "Store it in a dry place, away from direct sunlight, and air it now and then.",
    "The seams are sewn twice and every piece is looked at before it leaves us.",
    "Pair it with something plain, or let it stand on its own on a busy evening.",
    "It\u2019s light enough for summer and warm enough for an evening by the sea.",
    "Colours may look different on a screen; ask for a sample if you are not sure.",
    "Made by a family workshop that has done nothing else for three generations.",
    "Keeps its form in the machine, though washing by hand makes it last longer.",
    "Comes in a box that can be used again, with a card for a few kind words.",
    "Tested by people who walk a lot, sit a lot and sometimes spill their tea.",
    "The old favourite, cut anew: a little longer, a little wider, as was asked for.",
)


def full_length(rows: pl.DataFrame, pick: Pick) -> pl.DataFrame:
    """Return ``rows`` (the columns of FLIPKART_COLUMNS, without defects) as long as real ones.

    More specification entries, more and longer image URLs, longer descriptions with words of their
    own and the white space of scraped pages. Names stay what they are but for a doubled space.
    """
    doubled = pl.lit(pl.Series(pick("full doubled", 100) < 15))
    name = pl.col("product_name")
    entries = pl.concat_str(
        pl.col("product_specifications").str.strip_suffix("]}"),
        *(pl.concat_str(pl.lit(", "), entry) for entry in _more_entries(pick)),
        pl.lit("]}"),
        ignore_nulls=True,
    )
    return (
        rows.with_columns(
            product_name=pl.when(doubled).then(name.str.replace(" ", "  ")).otherwise(name),
            product_specifications=entries,
            image=_images(pick),
            product_url=pl.format("{}?pid={}", "product_url", "pid"),
        )
        .with_columns(description=_description(pick))
        .select(rows.columns)
    )


def _number(pick: Pick, field: str, choices: int) -> pl.Expr:
    return pl.lit(pl.Series(pick(f"full {field}", choices)))


def _chosen(pick: Pick, field: str, texts: tuple[str, ...]) -> pl.Expr:
    return pl.lit(pl.Series(texts)[pick(f"full {field}", len(texts))])


def _model(pick: Pick) -> pl.Expr:
    return pl.format("{}{}", pl.col("pid").str.slice(0, 3), _number(pick, "model", 10_000_000))


def _size(pick: Pick, separator: str) -> pl.Expr:
    edges = [
        pl.format("{}.{}", _number(pick, f"edge {edge}", 90) + 1, _number(pick, f"mm {edge}", 10))
        for edge in range(3)
    ]
    return pl.concat_str(edges, separator=separator)


def _more_entries(pick: Pick) -> list[pl.Expr]:
    values = {
        "Model ID": (100, _model(pick)),
        "Dimensions": (70, pl.format("{} cm", _size(pick, " x "))),
        "Sales Package": (70, _chosen(pick, "package", _PACKAGES)),
        "Other Features": (70, _chosen(pick, "feature", _FEATURES)),
        "Weight": (60, pl.format("{} g", _number(pick, "weight", 400) * 5 + 20)),
    }
    return [
        pl.when(_number(pick, key, 100) < share).then(
            pl.concat_str(pl.lit(f'{{"key"=>"{key}", "value"=>"'), value, pl.lit('"}'))
        )
        for key, (share, value) in values.items()
    ]


def _images(pick: Pick) -> pl.Expr:
    slug = pl.col("product_name").str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "-")
    identity = pl.col("pid").str.to_lowercase()
    count = _number(pick, "images", IMAGES)
    urls = [
        pl.when(count >= number).then(
            pl.format(
                '"https://images.example.com/image/{}/{}-{}-original-{}-{}.jpeg"',
                identity.str.slice(0, 5),
                slug,
                pl.lit(number),
                identity,
                _number(pick, f"image {number}", 10**9),
            )
        )
        for number in range(IMAGES)
    ]
    joined = pl.concat_str(urls, separator=", ", ignore_nulls=True)
    return pl.concat_str(pl.lit("["), joined, pl.lit("]"))


def _description(pick: Pick) -> pl.Expr:
    shape = pl.Series(np.repeat(_SHAPES, _SHARES))[pick("full shape", sum(_SHARES))]
    prose = pl.concat_str(
        pl.col("description"),
        pl.format(
            "Model {}, article {}, {}cm in all.",
            _model(pick),
            _number(pick, "article", 10**8),
            _size(pick, "x"),
        ),
        _chosen(pick, "sentence", _SENTENCES),
        separator=" ",
    )
    marks = r'\{"product_specification"=>\[|"key"=>|"value"=>|[{}\]"]'
    stated = pl.col("product_specifications").str.replace_all(marks, "").str.replace_all(", ", " ")
    texts = {
        "listed": pl.format(
            "Key features of {} {} {},Specifications of {} {}",
            "product_name", prose, _chosen(pick, "more", _SENTENCES), "product_name", stated,
        ),
        "priced": pl.format(
            "{}\n                         Price: Rs. {}\n\t\t\t\t\n\t\t\t{}\n{}",
            "product_name", "retail_price", prose, prose,
        ),
        "offered": pl.format(
            "Buy {} for Rs.{} online. {} at best prices with free delivery & cash on delivery."
            " Only genuine products. 30 day replacement guarantee.",
            "product_name", "discounted_price", "product_name",
        ),
    }  # fmt: skip
    spaced = pl.when(_number(pick, "spaced", 3) == 0).then(
        prose.str.replace(". ", ".  ", literal=True)
    )
    return pl.coalesce(
        *(pl.when(pl.lit(shape) == kind).then(text) for kind, text in texts.items()), spaced, prose
    )
