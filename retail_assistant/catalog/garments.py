"""What a garment is and whom it is for, read off a PRODUCTS row; what is worn together.

A category tree says where a shop hangs a product ("Western Wear"), not whether it is a top or a
pair of trousers. That stands in the product's name, its `Type` and the deeper category levels, as
one of a few dozen nouns. A product without any of them has no kind, and no rule about kinds holds
for it.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import combinations
from typing import Any

import polars as pl

from retail_assistant.catalog.embedding import normalised

NOUNS: dict[str, str] = {
    "top": "top, tee, t shirt, tshirt, polo, henley, tunic, blouse, kurta, kurti, camisole, vest",
    "shirt": "shirt",
    "bottom": "jeans, jean, trouser, chino, pant, trackpant, shorts, skirt, legging, jegging,"
    " palazzo, salwar, churidar, patiala, capri, jogger, cargo, dhoti, culotte, bermuda",
    "outfit": "dress, gown, jumpsuit, playsuit, frock, saree, sari, lehenga, choli, romper,"
    " bodysuit, dungaree, onesie, suit, tracksuit, kaftan, abaya, sherwani, set",
    "layer": "jacket, sweater, sweatshirt, cardigan, shrug, hoodie, coat, blazer, windcheater,"
    " pullover, poncho, waistcoat, bolero",
    "neckwear": "necktie, tie, cravat, bow tie",
    "accessory": "dupatta, stole, scarf, shawl, muffler, belt, cap, hat, beanie, glove, sock",
    "underwear": "bra, bralette, panty, pantie, lingerie, brief, boxer, trunk, thermal, underwear,"
    " innerwear, inner wear, petticoat, shapewear",
    "nightwear": "nighty, nightie, nightdress, night dress, night suit, night gown, nightwear,"
    " sleepwear, sleepsuit, pyjama, pajama, babydoll",
    "swimwear": "swimsuit, swimwear, swim dress, swim and beach, bikini",
}
"""The nouns (normalised, singular) that tell a garment's kind."""

APART = ("underwear", "nightwear", "swimwear")
"""What is worn under clothes, in bed or in the water: nothing is combined with it."""

WORN_WITH: dict[str, tuple[str, ...]] = {
    "top": ("bottom", "layer", "accessory"),
    "shirt": ("bottom", "layer", "neckwear", "accessory"),
    "bottom": ("top", "shirt", "layer", "accessory"),
    "outfit": ("layer", "accessory"),
    "layer": ("top", "shirt", "bottom", "outfit", "accessory"),
    "neckwear": ("shirt",),
    "accessory": ("top", "shirt", "bottom", "outfit", "layer"),
    **dict.fromkeys(APART, ()),
}
"""Kinds that complete each other; a kind never goes with itself."""

INSTEAD_OF: dict[str, tuple[str, ...]] = {"top": ("top", "shirt"), "shirt": ("shirt", "top")}
"""Kinds that may stand in for a kind other than just itself."""

AUDIENCES = ("women", "men", "girl", "boy", "baby")
_AUDIENCE_WORDS: dict[str, tuple[str, ...]] = {
    **{word: (word,) for word in AUDIENCES},
    "woman": ("women",),
    "lady": ("women",),
    "ladies": ("women",),
    "man": ("men",),
    "infant": ("baby",),
    "babies": ("baby",),
    "kid": ("girl", "boy"),
    "unisex": ("women", "men"),
}

OCCASION_ATTRIBUTES = ("occasion", "ideal occasion")
"""The attributes (lower case) that say what a garment is for."""

_DRESSY = {"party", "formal", "wedding", "festive", "evening"}
_SPORTY = r"\b(?:sports?|gym|track|cycling|swim|yoga|running|joggers?)\b"


def _forms(nouns: str) -> list[str]:
    singular = [noun.strip() for noun in nouns.split(",")]
    return [form for noun in singular for form in (noun, f"{noun}s", f"{noun}es")]


_KIND_OF = {form: kind for kind, nouns in NOUNS.items() for form in _forms(nouns)}
_FORMS_APART = [form for form, kind in _KIND_OF.items() if kind in APART]
_ADDED = ("neckwear", "accessory")


def _words(forms: Iterable[str]) -> str:
    """A pattern of whole words; of two that start alike the longer one counts."""
    return rf"\b(?:{'|'.join(sorted(forms, key=len, reverse=True))})\b"


def kind() -> pl.Expr:
    """Kind of a PRODUCTS row's garment: a key of WORN_WITH, or "" where no noun tells it.

    The last noun counts: of subcategory, deeper categories, `Type` and name, in this order, so
    that the name decides. What comes after "with" in a name is a part of the garment. A noun of
    what is worn apart decides before all others (a top among thermals is underwear), wherever it
    stands but in the subcategory (often a whole floor of the shop), save against a name that ends
    with something added, such as a cap.
    """
    name = _garment(pl.col("name").str.replace(r"(?i)\swith\s.*$", ""))
    own = _joined(pl.col("categories").list.slice(3).list.join(" "), _attribute("type"), name)
    apart = _last_kind(own, _FORMS_APART)
    any_kind = _last_kind(_garment(_joined(pl.col("subcategory"), own)), _KIND_OF)
    added = _last_kind(name, _KIND_OF).is_in(_ADDED).fill_null(value=False)
    return (
        pl.when(added)
        .then(any_kind)
        .otherwise(pl.coalesce(apart, any_kind))
        .fill_null("")
        .alias("kind")
    )


def _garment(text: pl.Expr) -> pl.Expr:
    """A text in normal form without cap sleeves: a cap is a garment, a sleeve is none."""
    return normalised(text).str.replace_all(r"\bcap sleeve", "")


def _last_kind(text: pl.Expr, forms: Iterable[str]) -> pl.Expr:
    last = text.str.extract_all(_words(forms)).list.last()
    return last.replace_strict(_KIND_OF, default=None, return_dtype=pl.String)


def audience() -> pl.Expr:
    """Whom a PRODUCTS row is for: words of AUDIENCES, in that order, or "" where nothing says it.

    The attribute `Ideal For` says it first, else the name, the subcategory, the category.
    """
    sources = [_attribute("ideal for"), *map(pl.col, ("name", "subcategory", "category"))]
    said = [normalised(source).str.extract_all(_words(_AUDIENCE_WORDS)) for source in sources]
    first = pl.coalesce(pl.when(words.list.len() > 0).then(words) for words in said)
    known = [
        pl.when(first.list.set_intersection(_words_for(one)).list.len() > 0).then(pl.lit(one))
        for one in AUDIENCES
    ]
    return pl.concat_str(known, separator=" ", ignore_nulls=True).alias("audience")


def _words_for(audience: str) -> list[str]:
    return [word for word, meant in _AUDIENCE_WORDS.items() if audience in meant]


@cache
def shared_audiences(audience: str) -> tuple[str, ...]:
    """Every value of `audience()` that shares somebody with one; all of them for ""."""
    every = [
        " ".join(some) for n in range(len(AUDIENCES) + 1) for some in combinations(AUDIENCES, n)
    ]
    meant = set(audience.split())
    return tuple(one for one in every if not meant or not one or meant & set(one.split()))


def occasions(product: Mapping[str, Any]) -> set[str]:
    """Occasions a PRODUCTS row is stated to be for, in lower case."""
    return {
        part.strip().lower()
        for entry in product["attributes"]
        if (entry["name"] or "").lower() in OCCASION_ATTRIBUTES
        for part in entry["value"].split(",")
    }


def clash(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one PRODUCTS row is only for dressing up and the other for sports."""
    return any(_is_dressy(a) and _is_sporty(b) for a, b in ((one, other), (other, one)))


def _is_dressy(product: Mapping[str, Any]) -> bool:
    stated = occasions(product)
    return bool(stated) and stated <= _DRESSY


def _is_sporty(product: Mapping[str, Any]) -> bool:
    text = f"{product['subcategory'] or ''} {product['name']}"
    return re.search(_SPORTY, text, re.IGNORECASE) is not None


def _attribute(name: str) -> pl.Expr:
    """Values of the attribute of a name (lower case), as one text; "" where there is none."""
    entry = pl.element().struct
    named = entry.field("name").str.to_lowercase() == name
    return pl.col("attributes").list.eval(entry.field("value").filter(named)).list.join(" ")


def _joined(*parts: pl.Expr) -> pl.Expr:
    return normalised(pl.concat_str(*parts, separator=" ", ignore_nulls=True))
