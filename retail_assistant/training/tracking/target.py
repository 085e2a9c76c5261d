"""Where an MLflow run is recorded, and what it is said to start from."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.launch.spec import LaunchSpec

TAG = "tag."


class TrackingTarget(BaseModel):
    """Where an MLflow run is recorded, and what it links back to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    experiment: str
    run_name: str
    tags: dict[str, str] = {}
    study: str | None = Field(default=None, description="Name of the parent run; None: no parent.")
    root: Path | None = Field(
        default=None, description="Storage folder, where the ids of studies' runs are kept."
    )

    @classmethod
    def of(cls, spec: LaunchSpec) -> Self | None:
        """The target that a spec names in `tracking`; None: it names none."""
        given = spec.tracking
        if not given:
            return None
        tags = {key.removeprefix(TAG): given[key] for key in given if key.startswith(TAG)}
        return cls(
            uri=given["uri"],
            experiment=given["experiment"],
            run_name=given["run_name"],
            tags={**tags, "fingerprint": spec.fingerprint},
            study=tags.get("study"),
            root=spec.root,
        )


class DatasetInput(BaseModel):
    """A data set that a run reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str = Field(description="The data version.")
    source: str = Field(description="Where it lies.")
    rows: int | None = None
    context: str = "training"


class ModelInput(BaseModel):
    """The model that a run starts from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str = Field(description="The model's version.")
    source: str = Field(description="Where it lies.")
    tags: dict[str, str] = {}
