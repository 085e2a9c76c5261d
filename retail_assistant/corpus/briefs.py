"""What is to be written about a product, decided before a word of it is written.

What is asked, what the right answer says and what supports it come from the catalog, in code. A
generator, template or language model, only finds the words. A brief holds all that they may depend
on, so its digest is what a written answer is kept under.
"""

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.dialogues import Evidence, Intent, Subset
from retail_assistant.corpus.draws import stable_digest


class SuggestedProduct(BaseModel):
    """A product to suggest: its id, how it is called, and what speaks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str
    called: str
    why: str


class PlannedQuestion(BaseModel):
    """One thing to ask, in `phrasings` different ways that share one answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="unique in its brief")
    intent: Intent
    subset: Subset
    asked_attribute: str | None = None
    gold_value: str | None = None
    details: tuple[tuple[str, str], ...] = Field((), description="the lines of an overview")
    suggestions: tuple[SuggestedProduct, ...] = ()
    evidence: Evidence = Evidence()
    phrasings: int = Field(1, ge=1)
    held_out: bool = Field(
        default=False, description="one more phrasing is wanted, which only `recall` asks in"
    )


class Brief(BaseModel):
    """All that is asked about one product, or about one that does not exist (`product_id` None)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = None
    content_hash: str | None = None
    product_name: str
    reference: str = Field(description="how a question calls the product")
    category: str | None = None
    record: str | None = Field(None, description="the product as a prompt shows it")
    questions: tuple[PlannedQuestion, ...] = Field(min_length=1)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: other content of the product or other questions, another one."""
        return stable_digest(self.model_dump_json())
