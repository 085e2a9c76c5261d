"""One turn of a conversation: what a shopper's client sends, and what it gets back."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.rendering import Message

Intent = Literal[
    "question",
    "overview",
    "alternatives",
    "complements",
    "comparison",
    "search",
    "small_talk",
    "not_shopping",
    "other_language",
]
"""What a shopper wants of a turn; `question`: something about one product."""

Declined = Literal["unknown", "not_carried", "not_shopping", "other_language", "unclear"]
"""Why a turn has no answer: the record does not say, the shop has no such product, …"""

Author = Literal["model", "catalog"]
"""Who wrote an answer: the champion, or code from the catalog's records."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Attribute(_Frozen):
    """One attribute of a product, as the catalog has it."""

    name: str
    value: str


class ProductCard(_Frozen):
    """A product as a client may show it: everything from the catalog index, nothing from a model.

    Texts are plain (no markup, no control characters), and have to be escaped where HTML is made.
    """

    product_id: str
    item: str = Field(description="The item code that answers call it by.")
    name: str
    brand: str | None = None
    category: str | None = None
    price: float | None = Field(default=None, description="What it costs now.")
    list_price: float | None = Field(default=None, description="What it cost before a discount.")
    image: str | None = Field(default=None, description="Path of a picture on this server.")
    attributes: list[Attribute] = []


class Correction(_Frozen):
    """Something that the model stated and the record contradicts; it was not left standing."""

    product_id: str | None
    attribute: str
    stated: str
    recorded: str | None
    action: Literal["corrected", "withheld"]


class Versions(_Frozen):
    """What made an answer. None of these is ever used for two things."""

    job: str | None = Field(default=None, description="The champion's hyperparameter job.")
    adapter: str | None = Field(default=None, description="Fingerprint of its adapter.")
    event: int | None = Field(default=None, description="Number in the champions' history.")
    index: str = Field(description="Fingerprint of the catalog index.")
    prompt: str = Field(description="Version of the prompt renderer.")


class TurnResult(_Frozen):
    """What an answer is from and about: the extension field `retail_assistant` of a completion."""

    answer_id: str
    question: str = Field(
        default="", description="What was understood, in words that need no conversation."
    )
    intent: Intent
    written_by: Author
    declined: Declined | None = None
    citations: list[str] = Field(default=[], description="Ids of the products it was made from.")
    products: list[ProductCard] = []
    suggestions: list[str] = Field(default=[], description="What a shopper may ask next.")
    corrections: list[Correction] = []
    versions: Versions
    finish_reason: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ModelAwayError(RuntimeError):
    """No model answers now; to be told as it is, and asked again later."""


class Written(_Frozen):
    """A piece of a model's answer; the last one says how it ended."""

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class WritingModel(Protocol):
    """A model that answers rendered prompts, greedily."""

    def stream(self, prompt: Sequence[Message], max_tokens: int) -> AsyncIterator[Written]:
        """The answer, piece by piece; closing the iterator ends the writing.

        Raises:
            ModelAwayError: no model answers.
        """
        ...


class Answering(Protocol):
    """Something that answers conversations: the assistant, as the API sees it."""

    def turn(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | TurnResult]:
        """The answer to the last message, piece by piece, and last of all what it was made from.

        Args:
            messages: the conversation, with roles "user" and "assistant"; the last is the user's.
            max_tokens: most tokens that the model may write.

        Raises:
            ModelAwayError: a model was needed, and none answers.
        """
        ...
