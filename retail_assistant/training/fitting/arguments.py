"""A job's hyperparameters in TRL's words."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.training.fitting.model import in_bfloat16, on_gpu, recomputes_activations
from retail_assistant.training.jobs import HyperparameterJob, Stage

NEVER = 10**9
"""Steps between what the trainer's own schedule does; `milestones.py` decides."""

CHECKPOINTS_KEPT = 3
"""The best one, the last, and one while it is written."""


class StageSettings(BaseModel):
    """What differs between the stages of a job."""

    model_config = ConfigDict(frozen=True)

    name: Stage
    epochs: float
    learning_rate: float
    evaluations: int = Field(description="In the whole stage; 0: never.")
    keeps_best: bool
    patience: int | None = Field(description="Evaluations without improvement until the end.")


def stage_settings(job: HyperparameterJob, stage: Stage, *, can_evaluate: bool) -> StageSettings:
    """How a job trains one of its stages. There is nothing to validate plain text on."""
    if stage == "domain":
        rate = job.domain_learning_rate or job.learning_rate
        return StageSettings(
            name=stage,
            epochs=job.domain_epochs,
            learning_rate=rate,
            evaluations=0,
            keeps_best=False,
            patience=None,
        )
    wanted = round(job.evaluations * job.epochs) if can_evaluate else 0
    evaluations = max(wanted, 1) if can_evaluate and job.evaluations else 0
    return StageSettings(
        name=stage,
        epochs=job.epochs,
        learning_rate=job.learning_rate,
        evaluations=evaluations,
        keeps_best=job.keeps_best and evaluations > 0,
        patience=job.early_stopping_patience if evaluations else None,
    )


def training_arguments(
    folder: Path, job: HyperparameterJob, stage: StageSettings, *, recompute: bool | None = None
) -> Any:
    """TRL's arguments for a stage; `folder` gets its checkpoints.

    Every step is logged: a curve that is averaged over steps would not be the same after a break.
    `recompute`: what the parallelism plan found on gradient checkpointing.
    """
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.batch_size,
        gradient_accumulation_steps=job.gradient_accumulation_steps,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        # Below 1 it is a share of all steps, which the trainer alone knows.
        warmup_steps=job.warmup_ratio,
        weight_decay=job.weight_decay,
        max_grad_norm=job.max_grad_norm,
        # Rows that are too long were left out before; only packing needs to know the length.
        max_length=job.max_seq_length if job.packing else None,
        packing=job.packing,
        padding_free=job.padding_free,
        eval_packing=False,
        gradient_checkpointing=recomputes_activations(job, recompute),
        bf16=in_bfloat16(),
        use_cpu=not on_gpu(),
        dataloader_pin_memory=on_gpu(),
        logging_steps=1,
        eval_strategy="steps" if stage.evaluations else "no",
        eval_steps=NEVER if stage.evaluations else None,
        save_strategy="steps",
        save_steps=NEVER,
        save_total_limit=CHECKPOINTS_KEPT,
        metric_for_best_model="eval_loss" if stage.keeps_best else None,
        greater_is_better=False if stage.keeps_best else None,
        restore_callback_states_from_checkpoint=True,
        seed=job.seed,
        data_seed=job.seed,
        report_to="none",
        disable_tqdm=True,
    )
