"""Launches of an engine: what it is given, on which devices, and several artefacts by one."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import dagster as dg

from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.baselines import prompted_baselines
from retail_assistant.evaluation.predict import together
from retail_assistant.launch.local import turn
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Resources, read_manifest
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef
from retail_assistant.training.jobs import Job
from retail_assistant.training.planning.devices import Devices

MAX_ANSWER_TOKENS = 96
GIB_A_PROCESS = 4.0
"""Main memory of an answering process; what a GPU holds is not in it."""

ANSWERS = "retail_assistant.evaluation.predict"
ANSWERS_VERSION = "3"


def engine_spec(
    name: str,
    module: str,
    config: dict[str, Any],
    tables: Mapping[str, TableRef],
    models: Mapping[str, ArtefactRef],
    *,
    code_version: str,
    processes: int = 1,
) -> LaunchSpec:
    """Work of an engine with a `base_model` and perhaps an `adapter`, on tables.

    Where there are GPUs each process has one.
    """
    folders = {"base_model": "model", "adapter": "adapter"}
    return LaunchSpec(
        name=name,
        module=module,
        config=config,
        inputs={
            **{label: table.sha256 for label, table in tables.items()},
            **{label: model.fingerprint for label, model in models.items()},
        },
        paths={
            **{label: table.path for label, table in tables.items()},
            **{label: model.folder / folders[label] for label, model in models.items()},
        },
        code_version=code_version,
        root=get_settings().storage,
        resources=Resources(
            processes=processes,
            gpus=processes if _gpus() else 0,
            cpus=processes if processes > 1 else None,
            memory_gib=GIB_A_PROCESS * processes,
        ),
    )


def _gpus() -> int:
    devices = Devices.parsed(get_settings().devices)
    return devices.count if devices.kind == "cuda" else 0


def baseline_spec(corpus: TableRef, assortment: TableRef, base_model: ArtefactRef) -> LaunchSpec:
    """What answers as a job has to do better: the untouched model, and no model."""
    return engine_spec(
        "baseline_predictions",
        ANSWERS,
        {
            "variants": prompted_baselines(),
            "max_tokens": MAX_ANSWER_TOKENS,
            "retrieval_only": True,
            "constant": True,
        },
        {"prompt_corpus": corpus, "assortment": assortment},
        {"base_model": base_model},
        code_version=ANSWERS_VERSION,
        processes=_gpus() or 1,
    )


def prediction_spec(
    job: Job, corpus: TableRef, base_model: ArtefactRef, adapter: ArtefactRef
) -> LaunchSpec:
    """What answers a job's questions: its own artefact, whichever jobs are answered beside it."""
    grounding, processes = job.hyperparameters.grounding, job.resources.processes
    return answering_spec(job.name, grounding, corpus, base_model, adapter, processes)


def answering_spec(
    job: str,
    grounding: str,
    corpus: TableRef,
    base_model: ArtefactRef,
    adapter: ArtefactRef,
    cpu_processes: int = 1,
) -> LaunchSpec:
    """An adapter's answers to the evaluation questions: the same for a job and for a champion."""
    return engine_spec(
        "predictions",
        ANSWERS,
        {"variants": [{"name": job, "grounding": grounding}], "max_tokens": MAX_ANSWER_TOKENS},
        {"prompt_corpus": corpus},
        {"base_model": base_model, "adapter": adapter},
        code_version=ANSWERS_VERSION,
        processes=_gpus() or cpu_processes,
    )


def launch_together(
    context: dg.AssetExecutionContext, launcher: Launcher, specs: Sequence[LaunchSpec]
) -> None:
    """Answer for all artefacts that are not there yet, with one engine.

    Each artefact's folder is held meanwhile: a second run waits for it, and finds it finished.

    Raises:
        LaunchError: some have no answers; the others keep theirs.
    """
    for spec in specs:
        if read_manifest(spec.folder) is not None:
            context.log.info(f"{spec.name} {spec.fingerprint}: unchanged, kept")
    while unanswered := [spec for spec in specs if read_manifest(spec.folder) is None]:
        # All runs take the folders in one order, so that none waits for one which waits for it.
        first, *beside = sorted(unanswered, key=lambda spec: spec.folder)
        with ExitStack() as turns:
            taken = [(spec, turns.enter_context(turn(spec))) for spec in reversed(beside)]
            held = [spec for spec, mine in taken if mine.done is None]
            # The first one's turn is the launcher's to take. Where another run has just answered
            # it, nothing is launched, and the others are next.
            launcher.launch(context, together([first, *held]))
