"""A search as a file says it: which hyperparameters may vary, within what, and for how long."""

import itertools
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retail_assistant.storage import fingerprint
from retail_assistant.training.grid import Axis, read_axis, short
from retail_assistant.training.jobs import (
    HyperparameterJob,
    StudyError,
    TrainedTask,
    corpora,
    explained,
    load_job,
)
from retail_assistant.training.resources import ResourceRequest

SEARCH_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,39}$")
_NOT_SEARCHED = {
    "max_seq_length": "decides which validation rows are compared",
    "stages": "decides what the trials learn from",
    "seed": "would be chosen by luck",
}
MOST_CORNERS = 4096
_STRICT = ConfigDict(extra="forbid", frozen=True)


class _Range(BaseModel):
    model_config = _STRICT

    low: float
    high: float
    log: bool = Field(default=False, description="Spread over orders of magnitude.")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g}, high={self.high:g}; allowed: low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low:g} with log; allowed: above 0")
        return self

    def ends(self) -> list[Any]:
        """The values at its ends."""
        return [self.low, self.high]


class FloatRange(_Range):
    """Any number from low to high."""

    kind: Literal["float"]


class IntRange(_Range):
    """Any whole number from low to high."""

    kind: Literal["int"]
    low: int
    high: int


class Choice(BaseModel):
    """One of some values, or of named groups of fields that change together."""

    model_config = _STRICT

    kind: Literal["choice"]
    values: Axis = Field(min_length=2)

    @field_validator("values", mode="before")
    @classmethod
    def _values_are_an_axis(cls, values: Any) -> Any:
        return read_axis("values", values)

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len(set(self.labels())) < len(self.values):
            raise ValueError(f"values={self.values!r}: two are the same; allowed: different ones")
        return self

    def labels(self) -> list[str]:
        """A word for each value: Optuna keeps words, not lists and mappings."""
        return list(self.values) if isinstance(self.values, dict) else list(map(short, self.values))

    def ends(self) -> list[Any]:
        """Every label."""
        return list(self.labels())


Dimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class Search(BaseModel):
    """A file that says what to try; Optuna proposes trials within it."""

    model_config = _STRICT

    search: str = Field(description="Its name; its trials' names begin with it.")
    description: str
    task: TrainedTask = "assistant"
    base_model: str | None = Field(
        default=None, min_length=1, description="The only base model it is for; default: any."
    )
    defaults: dict[str, Any] = Field(default={}, description="Hyperparameters of every trial.")
    resources: ResourceRequest = ResourceRequest()
    space: dict[str, Dimension] = Field(min_length=1, description="What varies, and within what.")
    objective: Literal["eval_loss"] = Field(
        default="eval_loss", description="What is made small: the validation loss."
    )
    trials: int = Field(ge=1, le=1000, description="No more than so many.")
    hours: float = Field(
        gt=0, le=24 * 30, description="No trial begins, or runs on, so long after the search began."
    )
    parallel: int = Field(default=1, ge=1, le=64, description="Trials that run at the same time.")
    seed: int = Field(default=7, ge=0, description="Of the proposals.")

    @model_validator(mode="after")
    def _space_is_made_of_hyperparameters(self) -> Self:
        if not SEARCH_NAME.fullmatch(self.search):
            raise ValueError(f"search={self.search!r}; allowed: {SEARCH_NAME.pattern}")
        seen = set(self.defaults)
        for name, dimension in self.space.items():
            for field in _fields(name, dimension):
                if field in seen:
                    raise ValueError(f"space.{name}: {field} is set elsewhere in the file too")
                if field in _NOT_SEARCHED:
                    raise ValueError(
                        f"space.{name}: {field} {_NOT_SEARCHED[field]}; allowed: in defaults"
                    )
            seen |= _fields(name, dimension)
        return self

    @property
    def fingerprint(self) -> str:
        """What makes trials comparable; bounds, machines and words may change meanwhile."""
        wanted = {"search", "task", "defaults", "space", "objective", "seed"}
        return fingerprint(self.model_dump(mode="json", include=wanted))

    @property
    def corpora(self) -> list[str]:
        """The partitions of the prompt corpus that its trials learn from."""
        return corpora(self.task, self.defaults.get("stages", ()))

    def values(self, params: dict[str, Any]) -> dict[str, Any]:
        """Hyperparameters of a point of the space (`params`: dimension -> number or label)."""
        found = dict(self.defaults)
        for name, value in params.items():
            dimension = self.space[name]
            if not isinstance(dimension, Choice):
                found[name] = value
            elif isinstance(dimension.values, dict):
                found |= dimension.values[value]
            else:
                found[name] = dimension.values[dimension.labels().index(value)]
        return found

    def job(self, params: dict[str, Any]) -> HyperparameterJob:
        """The validated hyperparameters of a point of the space.

        Raises:
            StudyError: the point is no valid job.
        """
        return load_job(f"search {self.search}: {params}", self.values(params), self.task)


def _fields(name: str, dimension: FloatRange | IntRange | Choice) -> set[str]:
    """The hyperparameters that a dimension sets."""
    if isinstance(dimension, Choice) and isinstance(dimension.values, dict):
        return {field for group in dimension.values.values() for field in group}
    return {name}


def load_search(where: str, content: dict[str, Any]) -> Search:
    """A search of which every corner of the space is a valid job; `where` opens a refusal.

    Raises:
        StudyError: names field, value and what is allowed.
    """
    try:
        search = Search.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{where}: {explained(error, Search)}") from error
    ends = [dimension.ends() for dimension in search.space.values()]
    for corner in itertools.islice(itertools.product(*ends), MOST_CORNERS):
        point = dict(zip(search.space, corner, strict=True))
        job = load_job(f"{where}: space at {point}", search.values(point), search.task)
        if job.evaluations == 0:
            raise StudyError(f"{where}: evaluations=0; allowed: at least 1, trials are compared")
    return search
