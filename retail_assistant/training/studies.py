"""Studies: files of jobs that are meant to be compared, read from YAML into one registry."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retail_assistant.training.grid import Axis, GridError, expand_grid, read_axis
from retail_assistant.training.jobs import (
    CLASSIFIED_TASK,
    EVALUATED_TASK,
    Job,
    StudyError,
    TrainedTask,
    explained,
    load_job,
    served_rank,
)
from retail_assistant.training.resources import ResourceRequest
from retail_assistant.training.searching.space import Search, load_search
from retail_assistant.yaml_files import YamlError, parsed_yaml

JOB_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}$")
RESOURCES = "resources"


class Study(BaseModel):
    """A file of jobs that are meant to be compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = Field(min_length=1, description="Its name; the MLflow experiment has it too.")
    description: str
    task: TrainedTask = "assistant"
    base_model: str | None = Field(
        default=None, min_length=1, description="The only base model it is for; default: any."
    )
    defaults: dict[str, Any] = Field(default={}, description="Hyperparameters of all its jobs.")
    resources: dict[str, Any] = Field(default={}, description="What all its jobs ask of machines.")
    jobs: dict[str, dict[str, Any]] = Field(
        default={}, description="Job name -> hyperparameters, and `resources`."
    )
    grid: dict[str, Axis] = Field(default={}, description="Axes; a job for every combination.")
    name: str | None = Field(
        default=None,
        description="Pattern of the grid's job names, such as r{lora_r}-{learning_rate}.",
    )

    @field_validator("grid", mode="before")
    @classmethod
    def _axes_are_values(cls, grid: Any) -> Any:
        if not isinstance(grid, dict):
            return grid
        return {axis: read_axis(f"grid.{axis}", values) for axis, values in grid.items()}

    @model_validator(mode="after")
    def _has_jobs_with_names(self) -> Self:
        if not self.jobs and not self.grid:
            raise ValueError("neither jobs nor grid; allowed: jobs, grid, or both")
        if self.name is not None and not self.grid:
            raise ValueError(f"name={self.name!r} without grid; allowed: with a grid")
        for name in self.given_jobs():
            if not JOB_NAME.fullmatch(name):
                raise ValueError(f"job name {name!r}; allowed: {JOB_NAME.pattern}")
        return self

    def given_jobs(self) -> dict[str, dict[str, Any]]:
        """What the file says of each job, those of the grid included; not yet validated.

        Raises:
            GridError: the grid is wrong, or names a job that the file has already.
        """
        made = expand_grid(self.grid, self.study, self.name) if self.grid else {}
        for name in made:
            if name in self.jobs:
                raise GridError(f"grid: the job {name!r} is among the study's jobs already")
        return {**self.jobs, **made}


class Registry(BaseModel):
    """All jobs of all studies, and the searches that propose more."""

    model_config = ConfigDict(frozen=True)

    studies: dict[str, Study]
    jobs: dict[str, Job]
    searches: dict[str, Search] = {}

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
                f"job {name!r} is of the task {job.task}, whose answers are not scored here;"
                f" allowed: its adapter, or jobs of the task {EVALUATED_TASK}"
            )
        return job

    def classifying_job(self, name: str) -> Job:
        """The job with this name, if its task is to classify texts.

        Raises:
            StudyError: there is none, or its task is another.
        """
        job = self.job(name)
        if job.task != CLASSIFIED_TASK:
            allowed = ", ".join(self.of_task(CLASSIFIED_TASK)) or "none, no study has that task"
            raise StudyError(
                f"job {name!r} is of the task {job.task}; allowed: jobs of the task"
                f" {CLASSIFIED_TASK}: {allowed}"
            )
        return job

    def search(self, name: str) -> Search:
        """The search with this name.

        Raises:
            StudyError: there is none; names those that exist.
        """
        if name not in self.searches:
            raise StudyError(f"no search {name!r}; allowed: {', '.join(self.searches) or 'none'}")
        return self.searches[name]

    def of_task(self, task: str) -> dict[str, Job]:
        """The jobs of a task, by name."""
        return {name: job for name, job in self.jobs.items() if job.task == task}


def load_registry(*folders: Path) -> Registry:
    """Every `*.yaml` of some folders, validated; a folder that is given twice counts once.

    A file is a study (`study:`) or a search (`search:`).

    Raises:
        StudyError: a file, job or field is wrong, a name is used twice, or a folder has no file.
    """
    studies: dict[str, Study] = {}
    jobs: dict[str, Job] = {}
    searches: dict[str, Search] = {}
    for path in _files(folders):
        content = _read(path)
        if isinstance(content, dict) and "search" in content:
            search = load_search(str(path), content)
            _refuse_known(path, search.search, studies, searches)
            searches[search.search] = search
            continue
        study = _load_study(path, content)
        _refuse_known(path, study.study, studies, searches)
        studies[study.study] = study
        for name, values in study.given_jobs().items():
            if name in jobs:
                raise StudyError(f"{path}: job {name!r} exists in study {jobs[name].study!r} too")
            jobs[name] = _resolved(path, study, name, values)
    return Registry(studies=studies, jobs=jobs, searches=searches)


def _refuse_known(
    path: Path, name: str, studies: dict[str, Study], searches: dict[str, Search]
) -> None:
    """Studies and searches share their names: both are MLflow experiments."""
    for kind, known in (("study", studies), ("search", searches)):
        if name in known:
            raise StudyError(f"{path}: {kind} {name!r} exists in another file already")


def notes(registry: Registry) -> list[str]:
    """What is allowed but worth a second look, a line each."""
    found = []
    for job in registry.jobs.values():
        rank = job.hyperparameters.lora_r
        step = served_rank(rank)
        if step != rank:
            found.append(f"job {job.name}: lora_r={rank} takes the memory of {step} when served")
    for study in registry.studies.values():
        jobs = [job.hyperparameters for job in registry.jobs.values() if job.study == study.study]
        ranks, alphas = {job.lora_r for job in jobs}, {job.lora_alpha for job in jobs}
        if len(ranks) > 1 and len(alphas) == 1:
            found.append(
                f"study {study.study}: lora_r varies at lora_alpha={alphas.pop()}, so the size of"
                " the update (alpha / r) varies with it"
            )
    return found


def _files(folders: tuple[Path, ...]) -> list[Path]:
    """The files of all folders, in order; each folder must have one."""
    files: list[Path] = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        found = sorted(folder.glob("*.yaml"))
        if not found:
            raise StudyError(f"{folder}: no studies; allowed: at least one *.yaml with a job")
        files += found
    return files


def _resolved(path: Path, study: Study, name: str, given: dict[str, Any]) -> Job:
    """A job with the study's defaults filled in and everything validated."""
    values = {**study.defaults, **given}
    asked = values.pop(RESOURCES, {})
    where = f"{path}: job {name}"
    if not isinstance(asked, dict):
        raise StudyError(f"{where}: {RESOURCES}={asked!r}; allowed: fields and values")
    try:
        resources = ResourceRequest.model_validate({**study.resources, **asked})
    except ValidationError as error:
        reason = explained(error, ResourceRequest)
        raise StudyError(f"{where}: {RESOURCES}: {reason}") from error
    return Job(
        name=name,
        study=study.study,
        task=study.task,
        base_model=study.base_model,
        hyperparameters=load_job(where, values, study.task),
        resources=resources,
    )


def _read(path: Path) -> Any:
    try:
        return parsed_yaml(path.read_text(encoding="utf-8"))
    except (YamlError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not YAML: {error}") from error


def _load_study(path: Path, content: Any) -> Study:
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{path}: {explained(error, Study)}") from error
