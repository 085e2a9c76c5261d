"""Finished artefacts as heavy work leaves them: files and the manifest that lists them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.launch.spec import MANIFEST_NAME, Manifest, OutputFile
from retail_assistant.storage import file_sha256


def finished(
    folder: Path,
    frames: Mapping[str, pl.DataFrame | bytes],
    metrics: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Write the frames (or files of any content) and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {}
    for name, frame in frames.items():
        path = folder / (name if isinstance(frame, bytes) else f"{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(frame, bytes):
            path.write_bytes(frame)
        else:
            frame.write_parquet(path)
        size, digest = path.stat().st_size, file_sha256(path)
        inside = str(path.relative_to(folder))
        outputs[name] = OutputFile(path=inside, sha256=digest, size=size)
    now = datetime.now(UTC)
    manifest = Manifest(
        name="planted",
        fingerprint=folder.name,
        code_version="1",
        inputs=dict(inputs),
        config={},
        outputs=outputs,
        metrics=dict(metrics),
        started=now,
        finished=now,
        host={},
        packages={},
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
