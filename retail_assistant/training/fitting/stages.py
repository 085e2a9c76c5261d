"""One stage of a training: from where it was broken off, or not at all where it is done already."""

import gc
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.launch.workload import Workload
from retail_assistant.model_shape import ModelShape
from retail_assistant.training.energy import EnergyMeter
from retail_assistant.training.fitting.arguments import StageSettings, training_arguments
from retail_assistant.training.fitting.checkpoints import (
    CheckpointMark,
    checkpoint_of,
    last_complete_checkpoint,
    read_mark,
    stage_folder,
)
from retail_assistant.training.fitting.memory_peak import begin_peak
from retail_assistant.training.fitting.milestones import early_stop_class, milestones_class
from retail_assistant.training.fitting.model import adapted_model, base_model, lora
from retail_assistant.training.fitting.preemption import Preemption
from retail_assistant.training.fitting.reporting import reporter_class, stage_history
from retail_assistant.training.fitting.samples import Questions, sampler_class, samples_until
from retail_assistant.training.fitting.trainer import trainer_class
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.tracking.tracker import Tracker

WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (WEIGHTS, "adapter_config.json")


@dataclass(frozen=True)
class Training:
    """What the stages of a training have in common."""

    work: Workload
    job: HyperparameterJob
    tokenizer: Any
    encoder: Encoder
    shape: ModelShape
    tracker: Tracker
    preemption: Preemption
    meter: EnergyMeter


@dataclass(frozen=True)
class StageData:
    """What a stage learns from and is measured on, as TRL takes it."""

    train: Any
    validation: Any = None
    questions: Questions | None = None


@dataclass(frozen=True)
class StageEnd:
    """A finished stage."""

    mark: CheckpointMark
    adapter: Path
    """The checkpoint that the stage ends with: the best one or the last."""
    history: pl.DataFrame
    """HISTORY rows, steps and sums counted from the stage's own beginning."""
    samples: pl.DataFrame
    resumed_from: str | None


def finish_stage(
    training: Training,
    settings: StageSettings,
    data: StageData,
    adapter: Path | None,
    steps_before: int,
) -> StageEnd:
    """Train a stage to its end, from its newest whole checkpoint if it has one.

    Leaves by SystemExit 143, with a checkpoint, where any process was told to end.

    `adapter` is what an earlier stage has left, to go on with; `steps_before` are the steps of the
    earlier stages, for the numbers that are tracked.
    """
    folder = stage_folder(training.work.folder, settings.name)
    planned = training.work.spec.execution.get("gradient_checkpointing")
    arguments = training_arguments(folder, training.job, settings, recompute=planned)
    fingerprint = training.work.spec.fingerprint
    found = last_complete_checkpoint(folder, fingerprint, arguments.world_size)
    mark = read_mark(found) if found else None
    if mark is None and arguments.process_index == 0:
        # What other processes left would be taken for ours when checkpoints are thinned out.
        shutil.rmtree(folder, ignore_errors=True)
    arguments.distributed_state.wait_for_everyone()
    if mark is None or not mark.ended:
        trainer = _trainer(training, arguments, data, adapter)
        _attach(trainer, training, settings, data, steps_before)
        if arguments.process_index == 0:
            training.work.say(_beginning(settings, data, found))
        _train(trainer, training, found, mark)
        trainer.accelerator.free_memory()
        del trainer
        gc.collect()
        last = last_complete_checkpoint(folder, fingerprint, arguments.world_size)
    else:
        last = found
    return _end(folder, last, settings, found.name if found else None)


def _trainer(training: Training, arguments: Any, data: StageData, adapter: Path | None) -> Any:
    base = base_model(training.work.spec.paths["base_model"], training.job)
    return trainer_class()(
        model=base if adapter is None else adapted_model(base, adapter),
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=training.tokenizer,
        peft_config=lora(training.job, training.shape) if adapter is None else None,
    )


def _attach(
    trainer: Any, training: Training, settings: StageSettings, data: StageData, before: int
) -> None:
    """Who listens to a training; first who decides when it is evaluated."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # a line a step
    trainer.add_callback(
        milestones_class()(
            trainer,
            settings,
            training.work.spec.fingerprint,
            training.preemption,
            training.meter,
        )
    )
    trainer.add_callback(reporter_class()(training.work, training.tracker, settings.name, before))
    if data.questions is not None:
        sampler = sampler_class()(
            trainer, data.questions, training.encoder, settings.name, training.work.say
        )
        trainer.add_callback(sampler)
    if settings.patience is not None:
        trainer.add_callback(early_stop_class()(early_stopping_patience=settings.patience))


def _beginning(settings: StageSettings, data: StageData, found: Path | None) -> str:
    rows = f"stage {settings.name}: {len(data.train)} sequences, {settings.epochs:g} epochs"
    return rows + (f"; going on from {found.name}" if found else "")


def _train(
    trainer: Any, training: Training, found: Path | None, mark: CheckpointMark | None
) -> None:
    if mark is not None:
        trainer.go_on_from(mark)
    begin_peak()
    with training.preemption.deferred():
        trainer.train(resume_from_checkpoint=str(found) if found else None)


def _end(
    folder: Path, last: Path | None, settings: StageSettings, resumed_from: str | None
) -> StageEnd:
    mark = read_mark(last) if last else None
    if last is None or mark is None or not mark.ended:
        raise RuntimeError(f"the stage {settings.name} left no finished checkpoint in {folder}")
    state = json.loads((last / "trainer_state.json").read_text())
    best = mark.best_step if settings.keeps_best else None
    return StageEnd(
        mark=mark,
        adapter=checkpoint_of(folder, best) if best is not None else last,
        history=stage_history(state["log_history"], settings.name),
        samples=samples_until(folder, mark.step),
        resumed_from=resumed_from,
    )
