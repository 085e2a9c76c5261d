"""Finished work in a storage folder, as launchers and workloads leave it."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from retail_assistant.launch.command import write_spec
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    LaunchSpec,
    Manifest,
    Resources,
    write_artefact_ref,
)
from retail_assistant.storage import write_atomically

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def finished_work(
    root: Path,
    name: str,
    inputs: dict[str, str],
    *,
    config: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    minutes: float = 30,
    finished: datetime = NOW,
    tracking: dict[str, str] | None = None,
    code_version: str = "1",
    **resources: Any,
) -> ArtefactRef:
    """An artefact with its spec and manifest."""
    spec = LaunchSpec(
        name=name,
        module="none",
        config=config or {},
        inputs=inputs,
        code_version=code_version,
        root=root,
        resources=Resources(**resources),
        tracking=tracking or {},
    )
    spec.folder.mkdir(parents=True)
    (spec.folder / ".lock").touch()
    write_spec(spec)
    manifest = Manifest(
        name=name,
        fingerprint=spec.fingerprint,
        code_version=code_version,
        inputs=inputs,
        config=spec.config,
        outputs={},
        metrics=metrics or {},
        started=finished - timedelta(minutes=minutes),
        finished=finished,
        host={"name": "one"},
        packages={},
    )
    write_atomically(spec.folder / MANIFEST_NAME, manifest.model_dump_json())
    return ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)


def pointed(root: Path, name: str, ref: ArtefactRef, partition: str | None = None) -> ArtefactRef:
    """The same, as what an asset has now."""
    write_artefact_ref(ref, root, name, partition)
    return ref


def aged(path: Path, days: float) -> None:
    """Let everything under a path look as old as that."""
    then = time.time() - days * 86_400
    for one in sorted([path, *path.rglob("*")], key=lambda one: -len(one.parts)):
        os.utime(one, (then, then), follow_symlinks=False)
