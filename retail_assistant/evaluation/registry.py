"""The promoted model in the MLflow registry, and the pointer that servers read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from retail_assistant.launch.spec import ArtefactRef, artefact_at, read_manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError
from retail_assistant.storage.bucket import bucket_of, read_pointer, write_pointer
from retail_assistant.storage.crash_points import crossing
from retail_assistant.training.tracking.mlflow_places import mlflow_client
from retail_assistant.training.tracking.tracker import tracked_run

MODEL_NAME = "retail-assistant"
ALIAS = "champion"
BARRED_TAG = "barred"
NOT_TRACKED = "not registered: the training was not tracked"


class Champion(BaseModel):
    """What a server needs to know of the promoted model."""

    model_config = ConfigDict(frozen=True)

    job: str
    grounding: str
    adapter: ArtefactRef
    base_model: str
    registered_model: str
    why: str
    event: int = 0
    """The number of the event in the champions' history that made it so."""


class NotRegisteredError(RuntimeError):
    """MLflow has no version of an adapter; the message says why."""


def champion_path(settings: Settings) -> Path:
    """Where the pointer to the champion lies."""
    return settings.storage / "champion.json"


def read_champion(settings: Settings) -> Champion:
    """The champion.

    Raises:
        StorageError: nothing was promoted yet.
    """
    champion = champion_if_any(settings)
    if champion is None:
        path = champion_path(settings)
        raise StorageError(f"{path}: nothing was promoted yet; `make run` promotes a first model")
    return champion


def champion_if_any(settings: Settings) -> Champion | None:
    """The champion; None: nothing was promoted yet."""
    text = read_pointer(champion_path(settings))
    if text is None:
        return None
    champion = Champion.model_validate_json(text)
    adapter = champion.adapter
    if bucket_of(settings.storage) is not None:
        # It was written from another machine's working copy.
        adapter = artefact_at(settings.storage, adapter.folder.parent.name, adapter.fingerprint)
    return champion.model_copy(update={"adapter": adapter})


def write_champion(champion: Champion, settings: Settings) -> None:
    """Move the pointer."""
    with crossing("pointer", "champion"):
        write_pointer(champion_path(settings), champion.model_dump_json(indent=2))


def register(
    adapter: ArtefactRef, description: str, tags: Mapping[str, str], settings: Settings
) -> str:
    """The adapter's version in the MLflow registry, `name/version`: found, or made.

    Raises:
        NotRegisteredError: the training was not tracked, or MLflow is away.
    """
    tracked = tracked_run(adapter.folder)
    manifest = read_manifest(adapter.folder, verify=False)
    if manifest is None:
        raise NotRegisteredError(f"not registered: {adapter.folder} is not there")
    run_id = tracked.run_id if tracked else manifest.metrics.get("mlflow_run_id")
    if run_id is None:
        raise NotRegisteredError(NOT_TRACKED)
    try:
        return _registered(str(run_id), adapter, description, tags, settings)
    except Exception as error:
        raise _away(error) from error


def _registered(
    run_id: str,
    adapter: ArtefactRef,
    description: str,
    tags: Mapping[str, str],
    settings: Settings,
) -> str:
    client = mlflow_client(settings.mlflow_tracking_uri)
    if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
        client.create_registered_model(MODEL_NAME)
    for known in client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run_id}'"):
        if known.tags.get("fingerprint", adapter.fingerprint) == adapter.fingerprint:
            return f"{MODEL_NAME}/{known.version}"
    client.log_artifacts(run_id, str(adapter.local / "adapter"), "adapter")
    created = client.create_model_version(
        MODEL_NAME,
        source=f"runs:/{run_id}/adapter",
        run_id=run_id,
        description=description,
        tags={**tags, "fingerprint": adapter.fingerprint},
    )
    return f"{MODEL_NAME}/{created.version}"


def point_alias(
    registered: str, bars: Mapping[str, str | None], tags: Mapping[str, str], settings: Settings
) -> None:
    """Give a version the alias `champion`; tell the registry which versions may not serve.

    Args:
        registered: `name/version`.
        bars: by `name/version`, why it may not serve; None: it may.
        tags: of the champion's version.
        settings: where the registry is.

    Raises:
        NotRegisteredError: MLflow is away, or does not know the version.
    """
    try:
        client = mlflow_client(settings.mlflow_tracking_uri)
        for name, why in bars.items():
            _tell_bar(client, name.rpartition("/")[2], why)
        version = registered.rpartition("/")[2]
        for key, value in tags.items():
            client.set_model_version_tag(MODEL_NAME, version, key, value)
        client.set_registered_model_alias(MODEL_NAME, ALIAS, version)
    except Exception as error:
        raise _away(error) from error


def _tell_bar(client: Any, version: str, why: str | None) -> None:
    there = BARRED_TAG in client.get_model_version(MODEL_NAME, version).tags
    if why is not None:
        client.set_model_version_tag(MODEL_NAME, version, BARRED_TAG, why)
    elif there:
        client.delete_model_version_tag(MODEL_NAME, version, BARRED_TAG)


def _away(error: Exception) -> NotRegisteredError:
    """Whatever MLflow, its database or the network says, in one line."""
    first = next(iter(str(error).splitlines()), "")[:200]
    # A name and a password may stand before the host.
    said = re.sub(r"//[^/@\s]+@", "//", first) or type(error).__name__
    return NotRegisteredError(f"not registered: MLflow says {said}")
