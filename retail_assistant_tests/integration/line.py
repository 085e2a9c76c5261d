"""The whole graph at a tiny size: a storage folder, and the command line that works on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg

from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref
from retail_assistant.storage import TableStore, write_atomically

JOBS = ("tiny-closed-book", "tiny-grounded")
TINY_STUDY = """
study: tiny
description: Two jobs small enough for a test.
defaults:
  epochs: 1
  lora_r: 4
  lora_alpha: 8
  learning_rate: 1.0e-3
  max_seq_length: 1024
  batch_size: 4
jobs:
  tiny-closed-book:
    grounding: none
  tiny-grounded:
    grounding: retrieved
"""
BIN = Path(sys.executable).parent
RUN_SECONDS = 600


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit code, what it wrote, and its seconds."""

    code: int
    output: str
    errors: str
    seconds: float

    @property
    def words(self) -> str:
        """Both outputs on one line: a terminal's line breaks may stand anywhere."""
        return " ".join((self.output + " " + self.errors).split())


@dataclass(frozen=True)
class Line:
    """A storage folder with the settings that its graph is run with."""

    storage: Path
    studies: Path
    base_model: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the commands see: this line's settings, and none of the caller's."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RETAIL_", "DAGSTER_", "MLFLOW_"))
        }
        return kept | {
            "RETAIL_STORAGE_URI": str(self.storage),
            "RETAIL_STUDIES": str(self.studies),
            "RETAIL_BASE_MODEL": str(self.base_model),
            "RETAIL_TRAIN_PRODUCTS": "6",
            "RETAIL_EVALUATION_PRODUCTS": "4",
            "DAGSTER_HOME": str(self.storage / "dagster"),
            # Threads over matrices of 64 columns only wait for each other.
            "OMP_NUM_THREADS": "1",
        }

    def call(self, *arguments: str, given: str = "") -> Finished:
        """Run `retail-assistant` to its end; `given` is what it reads from its standard input."""
        started = time.monotonic()
        ended = subprocess.run(
            [BIN / "retail-assistant", *arguments],
            input=given,
            env=self.environment,
            cwd=self.storage.parent,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        seconds = time.monotonic() - started
        return Finished(ended.returncode, ended.stdout, ended.stderr, seconds)

    def run(self, *jobs: str) -> Finished:
        """The main job for some hyperparameter jobs."""
        return self.call("run", *(part for job in jobs for part in ("--job", job)))

    def start_training(self, job: str) -> subprocess.Popen[bytes]:
        """Begin to materialize a job's adapter, and only that, through Dagster's command line."""
        selection = ("--select", "adapter", "--partition", job)
        module = ("-m", "retail_assistant.definitions")
        return subprocess.Popen(
            [BIN / "dagster", "asset", "materialize", *selection, *module],
            env=self.environment,
            cwd=self.storage.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance that the commands write to; close it after use (`with`)."""
        return dg.DagsterInstance.from_config(str(self.storage / "dagster"))

    def adapter(self, job: str) -> ArtefactRef:
        """The adapter that a job's partition refers to now."""
        return read_artefact_ref(self.storage, "adapter", job)

    def artefacts(self) -> dict[str, int]:
        """Folders of finished heavy work, with the time in ns at which each was finished."""
        manifests = (self.storage / "artefacts").glob("*/*/manifest.json")
        return {str(path.parent): path.stat().st_mtime_ns for path in manifests}

    def with_studies(self, folder: Path, **studies: str) -> "Line":
        """The same storage under other study files, written to `folder` by name."""
        folder.mkdir()
        for name, text in studies.items():
            (folder / f"{name}.yaml").write_text(text)
        return replace(self, studies=folder)


@dataclass(frozen=True)
class FinishedLine(Line):
    """A line whose whole graph was run once, and how that run ended."""

    first: Finished

    @contextmanager
    def promoted(self, job: str, event: int = 1) -> Iterator[None]:
        """A job made the champion by hand: one of random weights passes no policy."""
        adapter = self.adapter(job)
        champion = Champion(
            job=job,
            grounding="none" if "closed" in job else "retrieved",
            adapter=adapter,
            base_model=adapter.manifest().inputs["base_model"],
            registered_model="not registered: placed by a test",
            why="a test",
            event=event,
        )
        path = self.storage / "champion.json"
        before = path.read_text() if path.is_file() else None
        write_atomically(path, champion.model_dump_json())
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                write_atomically(path, before)

    def report(self) -> Path:
        """The comparison as HTML."""
        return read_artefact_ref(self.storage, "model_comparison").folder / "report.html"

    def asked(self) -> list[tuple[str, str]]:
        """Questions about different unseen products, each with its product's id."""
        corpus = TableStore(self.storage).ref("prompt_corpus", "assistant").read()
        rows = corpus.filter(subset="unseen", intent="attribute").sort("dialogue_id")
        unique = rows.unique("product_id", keep="first", maintain_order=True)
        return list(unique.select("question", "product_id").iter_rows())

    def comparison(self) -> dict:
        """The comparison as JSON; NaN, which is no JSON, is refused."""
        path = self.report().with_name("comparison.json")
        return json.loads(path.read_text(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
