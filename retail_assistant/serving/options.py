"""Settings of the server, prefix RETAIL_SERVING_; secrets come from the environment only."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from retail_assistant.settings import settings_error

Variant = Literal["vllm", "transformers", "command", "url", "nim"]
_NEEDS = {"command": "command", "url": "model_url", "nim": "model_url"}


class ServingSettings(BaseSettings):
    """How the assistant is served; a wrong value is refused at load."""

    model_config = SettingsConfigDict(
        env_prefix="RETAIL_SERVING_", extra="ignore", frozen=True, allow_inf_nan=False
    )

    host: str = Field(
        default="127.0.0.1",
        description="The address to listen on. Anything but the loopback address needs API keys.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="The port; 0: any free one.")
    variant: Variant = Field(
        default="vllm",
        description="What writes the answers. `vllm`, `transformers`: started here with the"
        " champion; `command`: any OpenAI-compatible server, started by RETAIL_SERVING_COMMAND;"
        " `url`, `nim`: a server or NVIDIA NIM container that runs already.",
    )
    command: str | None = Field(
        default=None,
        description="For `command`, with {model}, {name}, {host} and {port} filled in.",
    )
    model_url: str | None = Field(
        default=None,
        description="For `url` and `nim`: the endpoint, up to and without /v1 (its key in"
        " RETAIL_SERVING_MODEL_API_KEY).",
    )
    model_name: str | None = Field(
        default=None,
        validate_default=True,
        description="The model's name there; default: the only one it lists.",
    )
    model_api_key: SecretStr | None = Field(default=None, description="The endpoint's key.")
    weights: Literal["auto", "adapter", "merged"] = Field(
        default="auto",
        description="Whether vLLM gets the adapter beside the base, or both merged; `auto`:"
        " the adapter on CUDA, merged on a CPU.",
    )
    vllm_options: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="More options of `vllm serve`, with spaces between.",
    )
    require_keys: bool | None = Field(
        default=None,
        description="Whether API requests need a key (`retail-assistant keys add`); default: where"
        " keys were made, or the address is not the loopback one.",
    )
    page: bool = Field(default=True, description="Whether the chat page for shoppers is served.")
    shop_name: str = Field(
        default="Our shop", min_length=1, description="The shop's name on the chat page."
    )
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Origins of other sites whose pages may call the API (CORS), with commas.",
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Names that requests may call this server by, with commas, or *; default: on"
        " the loopback address only this machine's own names, elsewhere any.",
    )
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Addresses of proxies in front, with commas: what they say of a client's"
        " address (X-Forwarded-For) is believed.",
    )
    requests_per_minute: int = Field(
        default=120, ge=1, description="Of each key (or address, where there are no keys)."
    )
    max_running: int = Field(default=32, ge=1, description="Turns answered at a time.")
    max_waiting: int = Field(default=64, ge=0, description="Turns that may wait; more get 429.")
    max_request_bytes: int = Field(default=64_000, ge=1_000, description="Of a request's body.")
    body_seconds: float = Field(
        default=10.0, gt=0, description="Longest time for a request's body to come in."
    )
    max_messages: int = Field(default=40, ge=1, description="Of a conversation.")
    max_answer_tokens: int = Field(default=160, ge=1, description="That the model may write.")
    max_context_tokens: int = Field(
        default=2048, ge=256, description="Longest prompt plus answer that the model reads."
    )
    turn_seconds: float = Field(default=60.0, gt=0, description="Longest time for a whole turn.")
    watch_seconds: float = Field(
        default=5.0, gt=0, description="Between two looks for a new champion or catalog index."
    )
    start_seconds: float = Field(
        default=600.0, gt=0, description="Longest time for a model server to start."
    )
    feedback: bool = Field(
        default=True, description="Whether thumbs and unanswered questions are kept."
    )
    feedback_days: int = Field(default=90, ge=1, description="How long feedback is kept.")
    log_text: bool = Field(
        default=False, description="Whether logs may hold what shoppers and the model write."
    )

    @field_validator("vllm_options", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("allowed_hosts", "allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _between_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [one.strip() for one in value.split(",") if one.strip()]

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise ValueError(f"{origin!r}; allowed: origins such as https://shop.example, or *")
        return value

    @field_validator("command", "model_url")
    @classmethod
    def _is_not_empty(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("model_name")
    @classmethod
    def _variant_has_what_it_needs(cls, value: str | None, info: ValidationInfo) -> str | None:
        needed = _NEEDS.get(info.data.get("variant", ""))
        if needed and info.data.get(needed) is None:
            raise ValueError(
                f"RETAIL_SERVING_VARIANT={info.data['variant']} needs"
                f" RETAIL_SERVING_{needed.upper()}"
            )
        return value


@cache
def get_serving_settings() -> ServingSettings:
    """The server's settings of this process; raises as `serving_settings` does."""
    return serving_settings()


def serving_settings(**given: Any) -> ServingSettings:
    """The settings of the environment; what is given wins.

    Raises:
        SettingsError: names the variable, its value and what is allowed.
    """
    try:
        return ServingSettings(**given)
    except ValidationError as error:
        raise settings_error(error, "RETAIL_SERVING_") from error
