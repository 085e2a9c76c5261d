"""When a stage is evaluated and saved, how it ends, and what every checkpoint states."""

from functools import cache
from pathlib import Path
from typing import Any

from retail_assistant.training.energy import EnergyMeter
from retail_assistant.training.fitting.arguments import StageSettings
from retail_assistant.training.fitting.checkpoints import CheckpointMark, checkpoint_of
from retail_assistant.training.fitting.memory_peak import gpu_peak_mib, peak_mib
from retail_assistant.training.fitting.preemption import Preemption

CHECKPOINTS_A_STAGE = 4
SECONDS_BETWEEN_CHECKPOINTS = 1800.0
"""A training that is killed without notice loses no more than this, or a quarter."""


def evenly(points: int, steps: int) -> set[int]:
    """Steps that cut a stage into equal parts; the last step is always one of them."""
    return {round(part * steps / points) for part in range(1, points + 1)} - {0}


@cache
def milestones_class() -> Any:
    """`Milestones`; made on first use, for its base class takes seconds to import."""
    from transformers import TrainerCallback

    class Milestones(TrainerCallback):
        """Evaluations and checkpoints at even distances, at the end, and on SIGTERM.

        Every process must have one: they exchange what they read, and who was told to end.
        """

        def __init__(
            self,
            trainer: Any,
            stage: StageSettings,
            fingerprint: str,
            preemption: Preemption,
            meter: EnergyMeter,
        ) -> None:
            self._trainer, self._stage = trainer, stage
            self._fingerprint, self._preemption, self._meter = fingerprint, preemption, meter
            self._evaluated: set[int] = set()
            self._saved: set[int] = set()
            self._last_saved = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._last_saved = self._trainer.seconds()
            self._saved = evenly(CHECKPOINTS_A_STAGE, state.max_steps)
            if self._stage.evaluations:
                self._evaluated = evenly(self._stage.evaluations, state.max_steps)
            if self._stage.keeps_best:
                self._saved |= self._evaluated

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._trainer.order.set_epoch(int(state.epoch or 0))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            silent = self._trainer.seconds() - self._last_saved
            due, told = self._trainer.settle(
                silent > SECONDS_BETWEEN_CHECKPOINTS, self._preemption.asked
            )
            control.should_evaluate = state.global_step in self._evaluated
            control.should_save = state.global_step in self._saved or due or told
            if told:
                self._preemption.agreed = control.should_training_stop = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._last_saved = self._trainer.seconds()
            mark = self._mark(state, control)
            # Each process writes a part: whole is the checkpoint when all have.
            self._trainer.accelerator.wait_for_everyone()
            if state.is_world_process_zero:
                mark.write(checkpoint_of(Path(args.output_dir), state.global_step))
            self._trainer.accelerator.wait_for_everyone()

        def _mark(self, state: Any, control: Any) -> CheckpointMark:
            told, done = self._preemption.agreed, state.global_step >= state.max_steps
            main, gpu = self._peaks()
            return CheckpointMark(
                fingerprint=self._fingerprint,
                processes=self._trainer.accelerator.num_processes,
                step=state.global_step,
                ended=done or (control.should_training_stop and not told),
                stopped_early=control.should_training_stop and not told and not done,
                preempted=told,
                seconds=self._trainer.seconds(),
                evaluation_seconds=self._trainer.evaluation_seconds,
                tokens=self._trainer.tokens,
                learned_tokens=self._trainer.learned_tokens,
                kwh=self._meter.kwh,
                peak_memory_mib=main,
                gpu_peak_memory_mib=gpu,
                best_step=state.best_global_step,
            )

        def _peaks(self) -> tuple[int, int | None]:
            """Of the process that held most."""
            import torch

            gpu = gpu_peak_mib()
            own = torch.tensor([peak_mib(), gpu or 0], device=self._trainer.args.device)
            main, of_gpu = self._trainer.accelerator.reduce(own, reduction="max").tolist()
            return main, None if gpu is None else of_gpu

    return Milestones


@cache
def early_stop_class() -> Any:
    """The library's early stopping. Which checkpoint is kept is told by the mark, so it need not be
    loaded at the end, and the warning that it is not would mislead.
    """
    from transformers import EarlyStoppingCallback

    class EarlyStop(EarlyStoppingCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Nothing to check."""

    return EarlyStop
