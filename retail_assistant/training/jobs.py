"""Hyperparameter jobs: how one adapter is trained. Studies of them are read in `studies.py`."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retail_assistant.training.resources import ResourceRequest

TrainedTask = Literal["assistant", "product_description", "sentiment"]
"""The tasks that a study may train for; `domain_text` is text for a training stage before them."""

Stage = Literal["domain", "instruction"]
TargetModules = Literal["all-linear", "attention"] | list[str]

EVALUATED_TASK = "assistant"
CLASSIFIED_TASK = "sentiment"
DOMAIN_TEXT = "domain_text"
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has room for; an adapter of another takes that of the next."""

_STAGES: tuple[list[Stage], ...] = (["instruction"], ["domain", "instruction"])
_WITHOUT_ADAPTER = ("lm_head", "embed_tokens")


class StudyError(ValueError):
    """A study file is wrong; the message names file, job, field, value and what is allowed."""


class HyperparameterJob(BaseModel):
    """How one adapter is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    lora_r: int = Field(ge=1, le=512, description="Rank of the low-rank update.")
    lora_alpha: int = Field(ge=1, description="The update is scaled by alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of its inputs dropped.")
    target_modules: TargetModules = Field(
        default="all-linear",
        description="Which linear layers get an adapter: all but the vocabulary head, the"
        " attention's query, key, value and output projections, or those with these names.",
    )
    use_rslora: bool = Field(default=False, description="Scale by alpha / sqrt(r) instead.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to it.")
    learning_rate: float = Field(gt=0, le=0.1, description="At its highest, after the warm-up.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Of AdamW.")
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1, description="Share of the steps.")
    max_seq_length: int = Field(default=1024, ge=64, description="Tokens.")
    batch_size: int = Field(default=4, ge=1, description="Rows a process and forward pass.")
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, description="Forward passes an optimizer step."
    )
    quantization: Literal["none", "8bit", "4bit"] = Field(
        default="none", description="How the base model's weights are held while training."
    )
    packing: bool = Field(
        default=False, description="Fill sequences of max_seq_length tokens with several rows."
    )
    padding_free: bool = Field(
        default=False, description="Join a batch's rows into one sequence instead of padding them."
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Recompute activations in the backward pass; auto: where memory asks for it.",
    )
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = Field(
        default="auto", description="auto: flash attention where it is installed and fits, or sdpa."
    )
    evaluations: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="How often an epoch the validation loss and samples are taken; 0: never.",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        description="End after so many evaluations without a lower validation loss.",
    )
    keep_best: bool = Field(
        default=False,
        description="The adapter is the one with the lowest validation loss, not the last one;"
        " early stopping implies it.",
    )
    sample_generations: int = Field(
        default=3, ge=0, le=100, description="Validation prompts answered at each evaluation."
    )
    grounding: Literal["none", "retrieved"] = Field(
        default="none", description="Whether prompts carry catalog records."
    )
    data_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training rows; smaller ones lie within."
    )
    seed: int = Field(default=7, ge=0, description="Of the initial weights and the rows' order.")
    stages: list[Stage] = Field(
        default=["instruction"],
        description="domain: the same adapter first learns the catalog's own texts.",
    )
    domain_epochs: float = Field(
        default=1.0, gt=0, le=100, description="Epochs of the domain stage."
    )
    domain_learning_rate: float | None = Field(
        default=None, gt=0, le=0.1, description="Of the domain stage; default: learning_rate."
    )

    @property
    def keeps_best(self) -> bool:
        """Whether the adapter is the best checkpoint by validation loss."""
        return self.keep_best or self.early_stopping_patience is not None

    @field_validator("target_modules", mode="before")
    @classmethod
    def _targets_are_names(cls, value: Any) -> Any:
        names = value if isinstance(value, list) else []
        if value in ("all-linear", "attention") or (
            names and all(isinstance(name, str) and name for name in names)
        ):
            found = [name for name in names if name.split(".")[-1] in _WITHOUT_ADAPTER]
            if not found:
                return value
        raise ValueError(
            "allowed: all-linear, attention, or a list of names of linear layers such as"
            f" [q_proj, v_proj], without {' and '.join(_WITHOUT_ADAPTER)}"
        )

    @model_validator(mode="before")
    @classmethod
    def _alpha_has_a_rank(cls, values: Any) -> Any:
        if isinstance(values, dict) and "lora_alpha" in values and "lora_r" not in values:
            raise ValueError("lora_alpha is given without lora_r; allowed: both")
        return values

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.attention == "eager" and self.padding_free:
            # The scores of every pair of tokens of the joined rows would be held at once.
            raise ValueError(
                "attention='eager' with padding_free; allowed with it: auto, sdpa,"
                " flash_attention_2"
            )
        if self.evaluations == 0 and self.keeps_best:
            asked = "keep_best" if self.keep_best else "early_stopping_patience"
            raise ValueError(f"evaluations=0 with {asked}; allowed with it: at least 1")
        if self.stages not in _STAGES:
            allowed = " or ".join(f"[{', '.join(stages)}]" for stages in _STAGES)
            raise ValueError(f"stages=[{', '.join(self.stages)}]; allowed: {allowed}")
        if "domain" not in self.stages:
            for field in ("domain_epochs", "domain_learning_rate"):
                value = getattr(self, field)
                if value != type(self).model_fields[field].default:
                    raise ValueError(
                        f"{field}={value:g} without the stage domain;"
                        " allowed: with stages: [domain, instruction]"
                    )
        return self


class Job(BaseModel):
    """A named job with everything resolved: what a partition key stands for."""

    model_config = ConfigDict(frozen=True)

    name: str
    study: str
    task: TrainedTask
    base_model: str | None = Field(
        default=None, description="The only base model that it is meant for; default: any."
    )
    hyperparameters: HyperparameterJob
    resources: ResourceRequest = ResourceRequest()

    @property
    def corpora(self) -> list[str]:
        """The partitions of the prompt corpus that it learns from: its task's comes first."""
        return corpora(self.task, self.hyperparameters.stages)

    def require_base_model(self, configured: str) -> None:
        """Refuse to train on another base model than the one that the study is about.

        Hub names and folders are compared by their last part: `google/gemma-2-9b-it` may lie in
        `/models/gemma-2-9b-it`.

        Raises:
            StudyError: names both.
        """
        if self.base_model and _last_part(self.base_model) != _last_part(configured):
            raise StudyError(
                f"job {self.name!r} of the study {self.study} is for the base model"
                f" {self.base_model}; RETAIL_BASE_MODEL={configured}"
            )


def served_rank(rank: int) -> int:
    """The rank whose memory vLLM takes for an adapter of a rank."""
    return min(step for step in SERVED_RANKS if step >= rank)


def corpora(task: TrainedTask, stages: Sequence[Stage]) -> list[str]:
    """The partitions of the prompt corpus that a task's stages learn from."""
    return [task, DOMAIN_TEXT] if "domain" in stages else [task]


def _last_part(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]


def load_job(where: str, values: dict[str, Any], task: TrainedTask) -> HyperparameterJob:
    """Validated hyperparameters of a job of a task; `where` opens the message of a refusal.

    Raises:
        StudyError: names field, value and what is allowed.
    """
    try:
        job = HyperparameterJob.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{where}: {explained(error, HyperparameterJob)}") from error
    if task != EVALUATED_TASK and job.grounding != "none":
        raise StudyError(
            f"{where}: grounding={job.grounding!r}; allowed for the task {task}: 'none',"
            " its prompts hold no catalog records"
        )
    return job


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """A validation error in one line: each field with its value and what is allowed."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        known = ""
        if item["type"] == "extra_forbidden":
            known = f"; allowed: {', '.join(model.model_fields)}"
        value = "" if item["type"] == "missing" or not field else f"={item['input']!r}"
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"{field}{value}: {message}{known}".lstrip(": "))
    return "; ".join(parts)
