"""Which generator writes the dialogues, and how a model is asked: speed, retries, cost."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

GeneratorKind = Literal["template", "openai", "vertex", "vllm"]

OPENAI_URL = "https://api.openai.com/v1"
VERTEX_MODEL = "meta/llama-3.1-70b-instruct-maas"
_LENGTH_FIELDS = ("max_tokens", "max_completion_tokens")
_FIXED_FIELDS = frozenset({"messages", "model", "n", "stream"})

API_KEY_VARIABLE = "RETAIL_GENERATOR_API_KEY"
"""The environment variable that holds the key of an `openai` endpoint. It is kept nowhere else."""


class GeneratorChoice(BaseModel):
    """Who writes: templates, or which model where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: GeneratorKind = Field(
        "template",
        description="`template`: no model. `openai`: an OpenAI-compatible endpoint. `vertex`: Llama"
        " on Vertex AI. `vllm`: a model on this machine.",
    )
    model: str | None = Field(
        None,
        min_length=1,
        description="The model's name at the endpoint; for `vllm` a folder with safetensors"
        " (default: the base model), for `vertex` Llama 3.1 70B by default.",
    )
    url: str | None = Field(
        None,
        description="The endpoint up to and without /chat/completions; default: OpenAI's, or Vertex"
        " AI's of the project and location.",
    )
    project: str | None = Field(
        None, description="The Google Cloud project; default: that of the credentials."
    )
    location: str = Field(
        "us-central1", pattern=r"^[a-z0-9-]+$", description="Where on Google Cloud the model is."
    )

    @field_validator("url")
    @classmethod
    def _url_holds_no_secret(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        plain = parts.username is None and not parts.query and not parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            # Not shown: what is refused here may hold a key.
            raise ValueError(
                "allowed: http(s)://host[:port]/path, without a name, a password or a query;"
                f" the key belongs into {API_KEY_VARIABLE}"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _an_endpoint_serves_a_model(self) -> Self:
        if self.kind == "openai" and self.model is None:
            raise ValueError("the generator openai needs the name of a model")
        return self

    @property
    def model_name(self) -> str:
        """The model as it is asked for; empty where the base model or no model is meant."""
        if self.model is None and self.kind == "vertex":
            return VERTEX_MODEL
        return self.model or ""


class GenerationPolicy(BaseModel):
    """How a model is asked for dialogues. The template generator needs none of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0.7, ge=0, le=2, description="Of sampling; 0: always the likeliest.")
    top_p: float = Field(0.95, gt=0, le=1, description="Sample among the likeliest that make this.")
    max_tokens: int = Field(
        2048, ge=64, le=32_768, description="The longest response in tokens; one a product."
    )
    output: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema",
        description="How JSON is asked for. Endpoints that do not know json_schema may know"
        " json_object; `text` asks in words only.",
    )
    request_fields: dict[str, JsonValue] = Field(
        default={},
        description="Other fields of the request, as the endpoint names them; null leaves one out,"
        " for example {max_tokens: null, max_completion_tokens: 2048}.",
    )
    concurrency: int = Field(16, ge=1, le=1024, description="Requests at a time.")
    requests_per_minute: float | None = Field(
        None, gt=0, description="Sent at most, evenly, retries included."
    )
    tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="Asked for at most, prompts and responses, by what a request took so far.",
    )
    timeout: float = Field(
        120.0, gt=0, le=3600, description="Seconds without an answer after which one is retried."
    )
    retries: int = Field(
        5,
        ge=0,
        le=20,
        description="After no answer, 408, 409, 429 or 5xx; the wait doubles from 0.5 to 8 seconds,"
        " or is what Retry-After says, up to two minutes.",
    )
    max_failed_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Of the products asked about; when more get no answer, the run ends.",
    )
    give_up_after: int = Field(
        20,
        ge=1,
        description="Products in a row without an answer, after which the run ends; before the"
        " first answer one is enough.",
    )
    max_rejected_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the products answered; when more get nothing usable (judged from"
        " `give_up_after` products on), the run ends: such a model only costs.",
    )
    prompt_price: float = Field(0.0, ge=0, description="For a million tokens of prompts.")
    completion_price: float = Field(0.0, ge=0, description="For a million tokens of responses.")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="Of the prices and the cap.")
    max_cost: float | None = Field(
        None,
        gt=0,
        description="What all responses of one corpus may cost, those of earlier runs included.",
    )
    max_length: int = Field(
        4096, ge=512, description="Prompt and response in tokens, for `vllm` only."
    )

    @field_validator("request_fields")
    @classmethod
    def _fixed_fields_stay(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if fixed := sorted(_FIXED_FIELDS.intersection(value)):
            raise ValueError(f"not allowed: {', '.join(fixed)}")
        return value

    @model_validator(mode="after")
    def _a_cap_needs_prices(self) -> Self:
        if self.max_cost is not None and not self.prompt_price + self.completion_price:
            raise ValueError("max_cost needs prompt_price and completion_price")
        return self

    @property
    def sampling(self) -> dict[str, JsonValue]:
        """What a response depends on, beside the model and what it is asked."""
        names = {"temperature", "top_p", "max_tokens", "output", "request_fields"}
        return self.model_dump(mode="json", include=names)

    @property
    def longest_response(self) -> int:
        """The most tokens that a request allows for its response."""
        given = (self.request_fields.get(name) for name in _LENGTH_FIELDS)
        return max([self.max_tokens, *(tokens for tokens in given if isinstance(tokens, int))])

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of tokens, in `currency`."""
        prompts = prompt_tokens * self.prompt_price
        return (prompts + completion_tokens * self.completion_price) / 1_000_000
