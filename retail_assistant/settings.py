"""Every setting of the project, in one place. `retail-assistant settings` prints this table."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PACKAGE_FOLDER = Path(__file__).parent
EMBEDDED_CATALOG = PACKAGE_FOLDER / "data" / "catalog.csv"
SHIPPED_STUDIES = PACKAGE_FOLDER / "studies"


class SettingsError(ValueError):
    """A setting has a value that is not allowed; the message names it and says what is."""


class Settings(BaseSettings):
    """Read from environment variables `RETAIL_…`; a wrong value is refused at load."""

    model_config = SettingsConfigDict(env_prefix="RETAIL_", extra="ignore", frozen=True)

    environment: Literal["local", "cluster"] = Field(
        default="local", description="Chooses the defaults of the other settings."
    )
    catalog_uri: str = Field(
        default=str(EMBEDDED_CATALOG),
        min_length=1,
        description="The catalog: a CSV (also .gz, .zst) or parquet file, local or gs://.",
    )
    storage_uri: str = Field(
        default="var", min_length=1, description="Where tables and artefacts are kept (a folder)."
    )
    base_model: str = Field(
        default="smollm2-135m-instruct",
        description="The model that is fine-tuned: `smollm2-135m-instruct` (comes as a wheel),"
        " a folder with safetensors, or a hub name such as google/gemma-2-9b-it.",
    )
    generator: Literal["template"] = Field(
        default="template", description="What writes the training dialogues."
    )
    launcher: Literal["local"] = Field(
        default="local", description="Where heavy work runs. `local`: a process on this machine."
    )
    mlflow_uri: str | None = Field(
        default=None,
        description="MLflow tracking URI; default: SQLite under the storage folder.",
    )
    mlflow_ui: str = Field(
        default="http://127.0.0.1:5000", description="Where links in the UI to MLflow runs lead."
    )
    dagster_ui: str = Field(
        default="http://127.0.0.1:3000", description="Where links in MLflow to Dagster runs lead."
    )
    studies: Path = Field(
        default=SHIPPED_STUDIES, description="The folder of study files (*.yaml)."
    )
    train_products: int | None = Field(
        default=50,
        ge=2,
        description="How many training products dialogues are generated for; `all` for no limit."
        " The draw is stratified by subcategory, in hash order.",
    )
    evaluation_products: int | None = Field(
        default=30,
        ge=2,
        description="How many unseen products are asked about; `all` for no limit.",
    )
    seed: int = Field(default=7, ge=0, description="Seed of splits, dialogues and intervals.")
    refresh_schedule: str = Field(
        default="0 * * * *",
        description="Cron schedule of the catalog refresh (UTC); starts stopped.",
    )

    @field_validator("train_products", "evaluation_products", mode="before")
    @classmethod
    def _all_is_no_limit(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() == "all" else value

    @field_validator("storage_uri")
    @classmethod
    def _storage_is_local(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("allowed in this version: a local folder")
        return value

    @field_validator("studies")
    @classmethod
    def _studies_is_a_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError(f"{value} is not a folder; allowed: a folder of study files (*.yaml)")
        return value

    @property
    def storage(self) -> Path:
        """The storage folder, absolute (relative settings count from the working folder)."""
        return Path(self.storage_uri).expanduser().resolve()

    @property
    def mlflow_tracking_uri(self) -> str:
        """The MLflow tracking URI in force."""
        return self.mlflow_uri or f"sqlite:///{self.storage / 'mlflow' / 'mlflow.db'}"


@cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: names the variable, its value and what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"RETAIL_{str(item['loc'][0]).upper()}={item['input']}: {item['msg']}"
            for item in error.errors()
        ]
        raise SettingsError("; ".join(lines)) from error
