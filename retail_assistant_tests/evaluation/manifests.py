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
    frames: Mapping[str, pl.DataFrame],
    metrics: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Write the frames and the manifest."""
    folder.mkdir(parents=True)
    outputs = {}
    for name, frame in frames.items():
        path = folder / f"{name}.parquet"
        frame.write_parquet(path)
        size, digest = path.stat().st_size, file_sha256(path)
        outputs[name] = OutputFile(path=path.name, sha256=digest, size=size)
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
