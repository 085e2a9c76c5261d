"""Studies and hyperparameter jobs: read from YAML, validated, each job one partition."""

import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

TrainedTask = Literal["assistant", "product_description"]
"""The tasks that a study may train for; `domain_text` is text for a training stage before them."""

EVALUATED_TASK = "assistant"
JOB_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}$")


class StudyError(ValueError):
    """A study file is wrong; the message names file, job, field, value and what is allowed."""


class HyperparameterJob(BaseModel):
    """How one adapter is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1, gt=0, le=100)
    lora_r: int = Field(ge=1, le=512, description="Rank of the low-rank update.")
    lora_alpha: int = Field(ge=1, description="The update is scaled by alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="Which linear layers get an adapter."
    )
    use_rslora: bool = Field(default=False, description="Scale by alpha / sqrt(r) instead.")
    max_grad_norm: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(gt=0, le=0.1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    max_seq_length: int = Field(default=1024, ge=64, description="Tokens.")
    batch_size: int = Field(default=4, ge=1, description="Rows a process and step.")
    quantization: Literal["none", "8bit", "4bit"] = "none"
    packing: bool = False
    grounding: Literal["none", "retrieved"] = Field(
        default="none", description="Whether prompts carry catalog records."
    )
    data_fraction: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=7, ge=0)
    stages: list[Literal["instruction"]] = ["instruction"]

    @model_validator(mode="before")
    @classmethod
    def _alpha_has_a_rank(cls, values: Any) -> Any:
        if isinstance(values, dict) and "lora_alpha" in values and "lora_r" not in values:
            raise ValueError("lora_alpha is given without lora_r; allowed: both")
        return values


class Study(BaseModel):
    """A file of jobs that are meant to be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    description: str
    task: TrainedTask = "assistant"
    defaults: dict[str, Any] = {}
    jobs: dict[str, dict[str, Any]] = Field(min_length=1)

    @model_validator(mode="after")
    def _job_names_are_partition_keys(self) -> Self:
        for name in self.jobs:
            if not JOB_NAME.fullmatch(name):
                raise ValueError(f"job name {name!r}; allowed: {JOB_NAME.pattern}")
        return self


class Job(BaseModel):
    """A named job with everything resolved: what a partition key stands for."""

    model_config = ConfigDict(frozen=True)

    name: str
    study: str
    task: TrainedTask
    hyperparameters: HyperparameterJob


class Registry(BaseModel):
    """All jobs of all studies in a folder."""

    model_config = ConfigDict(frozen=True)

    studies: dict[str, Study]
    jobs: dict[str, Job]

    def job(self, name: str) -> Job:
        """The job with this name.

        Raises:
            StudyError: there is none; names those that exist.
        """
        if name not in self.jobs:
            raise StudyError(f"no job {name!r}; allowed: {', '.join(self.jobs)}")
        return self.jobs[name]

    def evaluated_job(self, name: str) -> Job:
        """The job with this name, if its task is one whose answers are scored.

        Raises:
            StudyError: there is none, or its task is another.
        """
        job = self.job(name)
        if job.task != EVALUATED_TASK:
            raise StudyError(
                f"job {name!r} is of the task {job.task}, whose answers are not scored yet;"
                f" allowed: its adapter, or jobs of the task {EVALUATED_TASK}"
            )
        return job

    def of_task(self, task: str) -> dict[str, Job]:
        """The jobs of a task, by name."""
        return {name: job for name, job in self.jobs.items() if job.task == task}


def load_registry(folder: Path) -> Registry:
    """Every `*.yaml` in a folder, validated.

    Raises:
        StudyError: a file, job or field is wrong, or a name is used twice.
    """
    studies: dict[str, Study] = {}
    jobs: dict[str, Job] = {}
    for path in sorted(folder.glob("*.yaml")):
        study = _load_study(path)
        if study.study in studies:
            raise StudyError(f"{path}: study {study.study!r} exists in another file already")
        studies[study.study] = study
        for name, values in study.jobs.items():
            if name in jobs:
                raise StudyError(f"{path}: job {name!r} exists in study {jobs[name].study!r} too")
            hyperparameters = _load_job(path, name, {**study.defaults, **values}, study.task)
            jobs[name] = Job(
                name=name, study=study.study, task=study.task, hyperparameters=hyperparameters
            )
    if not jobs:
        raise StudyError(f"{folder}: no studies; allowed: at least one *.yaml with a job")
    return Registry(studies=studies, jobs=jobs)


class _StudyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice; PyYAML would silently keep the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node


def _load_study(path: Path) -> Study:
    try:
        content = _StudyLoader(path.read_text(encoding="utf-8")).get_single_data()
        return Study.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        raise StudyError(f"{path}: {_explain(error, Study)}") from error


def _load_job(
    path: Path, name: str, values: dict[str, Any], task: TrainedTask
) -> HyperparameterJob:
    try:
        job = HyperparameterJob.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{path}: job {name}: {_explain(error, HyperparameterJob)}") from error
    if task != "assistant" and job.grounding != "none":
        raise StudyError(
            f"{path}: job {name}: grounding={job.grounding!r}; allowed for the task {task}: 'none',"
            " its prompts hold no catalog records"
        )
    return job


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        known = ""
        if item["type"] == "extra_forbidden":
            known = f"; allowed: {', '.join(model.model_fields)}"
        value = "" if item["type"] in ("missing", "value_error") else f"={item['input']!r}"
        parts.append(f"{field}{value}: {item['msg']}{known}".lstrip(": "))
    return "; ".join(parts)
