"""Names of products that do not exist, for questions that must be declined."""

from collections.abc import Iterator
from itertools import count

from retail_assistant.corpus.draws import pick
from retail_assistant.corpus.lookup import CatalogLookup

_FIRST_SYLLABLES = (
    "Bran", "Cor", "Dal", "Fen", "Gal", "Hul", "Jor", "Kes", "Lum", "Mar", "Nor", "Osk",
    "Pel", "Quil", "Rus", "Sol", "Tam", "Ulv", "Ves", "Wend", "Yar", "Zeph",
)  # fmt: skip
_LAST_SYLLABLES = (
    "addo", "aine", "anto", "ellis", "emba", "endra", "estri", "ival", "ivo", "olda",
    "omere", "onique", "orra", "osti", "ulane", "umo", "urra", "yth",
)  # fmt: skip
_MANNERS = ("Casual", "Classic", "Everyday", "Evening", "Festive", "Light", "Soft", "Sporty")
_AUDIENCES = ("Women's", "Men's", "Girl's", "Boy's")
_GARMENTS = (
    "Top", "Shirt", "Kurta", "Dress", "Trousers", "Shorts", "Jacket", "Leggings", "Skirt",
    "T-Shirt", "Sweater", "Tunic",
)  # fmt: skip

_ATTEMPTS = 100_000


def invented_names(lookup: CatalogLookup, seed: int) -> Iterator[str]:
    """Names of products that the assortment does not have, each of its own invented brand.

    Neither the brand nor the name occurs in the assortment and no brand comes twice, so that
    names taken for training and names taken for evaluation share no brand. The names are made of
    common words otherwise: what gives them away is the catalog, not an odd kind of product.
    Deterministic; ends after a few hundred names, when the brands are used up.
    """
    used: set[str] = set()
    brands = len(_FIRST_SYLLABLES) * len(_LAST_SYLLABLES)
    for attempt in count():
        if len(used) == brands or attempt == _ATTEMPTS:
            return
        parts = ("invent", seed, attempt)
        brand = pick(_FIRST_SYLLABLES, *parts, "first") + pick(_LAST_SYLLABLES, *parts, "last")
        if brand in used:
            continue
        used.add(brand)
        words = (_MANNERS, _AUDIENCES, _GARMENTS)
        name = " ".join((brand, *(pick(options, *parts, options[0]) for options in words)))
        if not lookup.has_word(brand) and not lookup.has_name(name):
            yield name
