"""How much of the dialogues a changed catalog leaves as they were.

The template generator reads the whole assortment each time: what is fair to ask of a product
depends on what the others say. But all its draws are by hash of the product, so an edit of a few
products changes the dialogues of a few, and a dialogue that stays keeps its id: whatever costs more
than a template (screening by a model, rendering, answering) can take over what it has for that id.
"""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

_SAME = ("dialogue_id", "subset")


class DialogueReuse(BaseModel):
    """Dialogues beside those of the last catalog; reused + new = all there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reused: int = Field(ge=0, description="dialogues that were there before, in the same subset")
    new: int = Field(ge=0, description="dialogues that were not")
    gone: int = Field(ge=0, description="dialogues of before that are no longer there")
    products: int = Field(ge=0, description="products with a new dialogue or with one that is gone")


def dialogue_reuse(before: pl.DataFrame | None, after: pl.DataFrame) -> DialogueReuse:
    """Compare two dialogues frames (DialogueSchema); without one before, all are new."""
    if before is None:
        before = after.head(0)
    new = after.join(before, on=_SAME, how="anti")
    gone = before.join(after, on=_SAME, how="anti")
    touched = pl.concat([new["product_id"], gone["product_id"]]).drop_nulls()
    return DialogueReuse(
        reused=after.height - new.height,
        new=new.height,
        gone=gone.height,
        products=touched.n_unique(),
    )
