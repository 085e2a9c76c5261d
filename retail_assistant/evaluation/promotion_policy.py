"""What a model must show before it serves: a YAML file that the shop's own people can change."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.profiles import load_profile
from retail_assistant.settings import get_settings
from retail_assistant.storage import fingerprint

Limit = Literal[
    "min_questions",
    "min_unanswerable_questions",
    "min_strict_accuracy",
    "max_hallucinated_product_rate",
    "max_answered_unanswerable_rate",
]
Cost = Literal[
    "answer_seconds", "train_seconds", "train_tokens", "trainable_parameters", "peak_memory_mib"
]
Severity = Literal["warn", "error"]
GuardedSet = Literal["recall", "unanswerable"]


class Limits(BaseModel):
    """The absolute rules: what holds for every model, whatever else there is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_questions: int = Field(
        30, ge=1, description="fewest attribute questions about products that training never saw"
    )
    min_unanswerable_questions: int = Field(10, ge=1, description="fewest unanswerable questions")
    min_strict_accuracy: float = Field(
        0.5, ge=0, le=1, description="least strict accuracy on products that training never saw"
    )
    max_hallucinated_product_rate: float = Field(
        0.1, ge=0, le=1, description="greatest share of answers that name a product of no catalog"
    )
    max_answered_unanswerable_rate: float = Field(
        0.5, ge=0, le=1, description="greatest share of unanswerable questions that are answered"
    )
    blocking: tuple[Limit, ...] = Field(
        (
            "min_questions",
            "min_unanswerable_questions",
            "min_strict_accuracy",
            "max_hallucinated_product_rate",
            "max_answered_unanswerable_rate",
        ),
        description="limits whose check ends the run where no candidate keeps them and nothing"
        " serves yet; the checks of the others only warn (the limits hold all the same)",
    )


class BaselineRule(BaseModel):
    """The gain over the untouched model with the same prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.05, gt=0, lt=1, description="the gain has p (McNemar, Holm) below this")


class ChallengeRule(BaseModel):
    """What takes the champion's place: a better model, or one as good that costs less."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="better: p (McNemar, Holm) below this; as good: one-sided p below its half",
    )
    margin: float = Field(
        0.1, gt=0, lt=1, description="as good: less accurate by less than this, with significance"
    )
    cost: Cost = Field("answer_seconds", description="what an equal must need less of")
    min_saving: float = Field(
        0.2, ge=0, lt=1, description="least share of the champion's cost that an equal saves"
    )
    not_worse_on: tuple[GuardedSet, ...] = Field(
        ("unanswerable",), description="sets on which a challenger may not be significantly worse"
    )


class DriftRule(BaseModel):
    """When the champion's answers to a new catalog's questions are told of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: float = Field(
        0.05, ge=0, lt=1, description="a change for the worse up to this is no drift"
    )
    severity: Severity = Field("warn", description="of a change for the worse")
    severity_beyond_limits: Severity = Field(
        "error", description="of a champion that keeps an absolute limit no longer"
    )


class PromotionPolicy(BaseModel):
    """What a model must show before it is promoted, and when the champion is doubted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Limits = Field(default=Limits(), description="what holds for every model")
    baseline: BaselineRule = Field(
        default=BaselineRule(), description="the gain over the untouched model"
    )
    challenge: ChallengeRule = Field(
        default=ChallengeRule(), description="what takes the champion's place"
    )
    drift: DriftRule = Field(default=DriftRule(), description="when the champion is doubted")

    @property
    def version(self) -> str:
        """A hash of what the policy says."""
        return fingerprint(self.model_dump(mode="json"))


def get_promotion_policy() -> PromotionPolicy:
    """The policy that the settings name (`RETAIL_PROMOTION_POLICY`).

    Raises:
        ProfileError: the file cannot be used; names the field, its value and what is allowed.
    """
    path = get_settings().promotion_policy
    return _at(path, path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _at(path: Path, _changed: int) -> PromotionPolicy:
    return load_profile(path, PromotionPolicy)
