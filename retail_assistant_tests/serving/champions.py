"""Champions and indexes in a storage folder, as the graph leaves them for servers."""

from pathlib import Path

from retail_assistant.evaluation.registry import Champion, write_champion
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.settings import Settings
from retail_assistant_tests.evaluation.adapters import save_adapter
from retail_assistant_tests.evaluation.manifests import finished

BASE = "base0"


def storage_with(base: Path, root: Path) -> Settings:
    """Settings of a storage folder that holds a base model."""
    folder = root / "artefacts" / "base_model" / BASE
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(base)
    return Settings(storage_uri=str(root))


def champion(settings: Settings, job: str, event: int, adapter_seed: int | None = None) -> Champion:
    """A champion; with a seed it has an adapter of random weights."""
    folder = settings.storage / "artefacts" / "adapter" / f"print-{job}"
    if not folder.exists():
        files: dict[str, bytes] = {}
        if adapter_seed is not None:
            base = settings.storage / "artefacts" / "base_model" / BASE / "model"
            save_adapter(base, folder / "adapter", adapter_seed)
            saved = (folder / "adapter").iterdir()
            files = {f"adapter/{path.name}": path.read_bytes() for path in saved}
        finished(folder, files, {"prompt_style": "chat"}, {})
    return Champion(
        job=job,
        grounding="retrieved",
        adapter=ArtefactRef(folder=folder, fingerprint=folder.name),
        base_model=BASE,
        registered_model=f"retail-assistant/{event}",
        why="",
        event=event,
    )


def promote(settings: Settings, job: str, event: int) -> str:
    """Make a job the champion; the name that servers know it by."""
    write_champion(champion(settings, job, event), settings)
    return f"{job}-print-{job}"


def publish_index(settings: Settings, fingerprint: str) -> None:
    """Make a folder the index."""
    folder = settings.storage / "artefacts" / "catalog_index" / fingerprint
    (folder / "index").mkdir(parents=True, exist_ok=True)
    ref = ArtefactRef(folder=folder, fingerprint=fingerprint)
    write_artefact_ref(ref, settings.storage, "catalog_index", None)
