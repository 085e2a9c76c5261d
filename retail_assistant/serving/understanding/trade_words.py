"""Words of the trade: what shoppers and sellers call attributes, garments, people, colors."""

KIND, AUDIENCE, BRAND, COLOR, SIZE, FABRIC = "kind", "audience", "brand", "color", "size", "fabric"

SAME_ATTRIBUTE = {
    "material": FABRIC,
    "shade": COLOR,
    "primary color": COLOR,
    "brand color": COLOR,
    "collar": "neck",
    "neckline": "neck",
    "brand fit": "fit",
    "ideal for": AUDIENCE,
    "sizes": SIZE,
    "primary product size": SIZE,
    "available sizes": SIZE,
}
"""Names under which sellers state the same thing, in normal form."""

ASKED_AS = {
    "made of": FABRIC,
    "made from": FABRIC,
    "made out of": FABRIC,
    "material": FABRIC,
    "cloth": FABRIC,
    "fabrics": FABRIC,
    "color": COLOR,
    "shade": COLOR,
    "shades": COLOR,
    "brands": BRAND,
    "brand": BRAND,
    "sizes": SIZE,
    "size": SIZE,
    "patterns": "pattern",
    "design": "pattern",
    "wash": "fabric care",
    "washed": "fabric care",
    "washing": "fabric care",
    "wash care": "fabric care",
    "care": "fabric care",
    "collar": "neck",
    "neckline": "neck",
    "occasions": "occasion",
    "who made": BRAND,
    "made by": BRAND,
    "maker": BRAND,
    "manufacturer": BRAND,
    "who is it for": AUDIENCE,
    "who are they for": AUDIENCE,
    "who are these for": AUDIENCE,
    "meant for": AUDIENCE,
    "should wear": AUDIENCE,
}
"""How shoppers ask for an attribute."""

UNSEARCHED = frozenset({"type", AUDIENCE, BRAND, "style code"})
"""Dimensions whose values are read elsewhere, or are codes."""

COLORS = (
    "red",
    "blue",
    "green",
    "black",
    "white",
    "yellow",
    "pink",
    "purple",
    "orange",
    "brown",
    "gray",
    "beige",
    "navy",
    "maroon",
    "teal",
    "cream",
    "gold",
    "silver",
    "violet",
    "lavender",
    "turquoise",
    "peach",
    "mustard",
    "olive",
    "khaki",
    "indigo",
    "magenta",
)
"""Colors that are known even where the shop has nothing of them."""

WHO = {
    "men": "men man gentleman husband father dad boyfriend him guy guys",
    "women": "women woman wife mother mom mum girlfriend her lady",
    "boy": "boy son nephew",
    "girl": "girl daughter niece",
    "baby": "baby infant babies newborn",
    "kid": "kid child children toddler",
}
"""Whom something is for, in the words of shoppers."""

MEANT_BY = {"kid": ("girl", "boy", "baby")}
"""Audiences of `catalog.garments` that such a word means, where it is none of them itself."""

SAME_NOUN = {
    "tee": "t shirt",
    "tshirt": "t shirt",
    "sari": "saree",
    "jean": "jeans",
    "pantie": "panty",
    "nightie": "nighty",
    "pyjama": "pajama",
    "trackpant": "track pant",
}
"""Spellings of one garment."""

WIDER_NOUN = {"pant": ("trouser", "track pant", "trackpant"), "tie": ("necktie", "bow tie")}
"""Nouns that mean other garments, too."""
