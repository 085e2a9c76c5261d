"""How much of it is done: with the model of `make run`, or with random weights, for a test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from retail_assistant.evaluation.registry import Champion, write_champion
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant_tests.model_families import save_tiny_chat_model
from retail_assistant_tests.rehearsal.parts import Stage

TINY_JOB = "tiny-grounded"
TINY_STUDY = f"""
study: tiny
description: A job of random weights that lasts long enough to lose a machine in it.
jobs:
  {TINY_JOB}:
    grounding: retrieved
    epochs: 6
    lora_r: 4
    lora_alpha: 8
    learning_rate: 1.0e-3
    batch_size: 1
"""


@dataclass(frozen=True)
class Size:
    """A job with its settings."""

    job: str
    environment: Mapping[str, str]
    promote: Callable[[Stage], None] | None = None
    main_job: Mapping[str, str] = field(default_factory=dict)
    """More settings of the main job alone."""
    loses_a_machine: bool = False
    """Whether a first machine is lost in the training; Ray's jobs would outlive it."""


def tiny(folder: Path) -> Size:
    """A model of 0.4 million random weights, which no policy would promote."""
    (folder / "studies").mkdir()
    (folder / "studies" / "tiny.yaml").write_text(TINY_STUDY)
    save_tiny_chat_model(folder / "tiny-model")
    return Size(
        TINY_JOB,
        {
            "RETAIL_STUDIES": str(folder / "studies"),
            "RETAIL_BASE_MODEL": str(folder / "tiny-model"),
            "RETAIL_TRAIN_PRODUCTS": "6",
            "RETAIL_EVALUATION_PRODUCTS": "4",
            "OMP_NUM_THREADS": "1",
        },
        _crown,
        # Eight Ray jobs for a model that trains in seconds would only wait for each other. What
        # follows the new catalog runs on Ray at every size.
        {"RETAIL_LAUNCHER": "local"},
        loses_a_machine=True,
    )


def quickstart(_folder: Path) -> Size:
    """The grounded job of `make run`."""
    return Size("quickstart-grounded", {})


SIZES: Mapping[str, Callable[[Path], Size]] = {"tiny": tiny, "quickstart": quickstart}


def _crown(parts: Stage) -> None:
    """Make the tiny model the champion by hand."""
    adapter = read_artefact_ref(parts.settings.storage, "adapter", TINY_JOB)
    champion = Champion(
        job=TINY_JOB,
        grounding="retrieved",
        adapter=adapter,
        base_model=adapter.manifest().inputs["base_model"],
        registered_model="not registered: placed by a rehearsal",
        why="a rehearsal",
        event=1,
    )
    write_champion(champion, parts.settings)
