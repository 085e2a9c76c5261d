"""Fine-tune one hyperparameter job: LoRA on TRL's SFTTrainer, under `accelerate launch`.

`accelerate launch -m retail_assistant.training.finetune --spec spec.json` leaves `adapter/`
(safetensors, model card), `history.parquet` (a row a step) and `samples.parquet` (what it answered
on the way). A run that was broken off goes on from its last whole checkpoint and ends as if it had
not been; on SIGTERM it writes one and leaves with exit code 143.
"""

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.launch.spec import PREEMPTED_EXIT_CODE
from retail_assistant.launch.workload import Workload, is_first_rank, workload
from retail_assistant.model_shape import model_shape
from retail_assistant.storage import TableRef
from retail_assistant.training.energy import EnergyMeter
from retail_assistant.training.fitting.arguments import stage_settings
from retail_assistant.training.fitting.checkpoints import newest_kwh
from retail_assistant.training.fitting.divergence import require_finite
from retail_assistant.training.fitting.measures import training_measures
from retail_assistant.training.fitting.model import on_gpu
from retail_assistant.training.fitting.out_of_memory import out_of_memory_told
from retail_assistant.training.fitting.preemption import Preemption
from retail_assistant.training.fitting.reporting import is_number, joined_history
from retail_assistant.training.fitting.rows import (
    Documents,
    document_dataset,
    documents_of,
    fitting_rows,
    training_dataset,
)
from retail_assistant.training.fitting.samples import questions_of
from retail_assistant.training.fitting.stages import (
    ADAPTER_FILES,
    WEIGHTS,
    StageData,
    StageEnd,
    Training,
    finish_stage,
)
from retail_assistant.training.jobs import HyperparameterJob, Stage
from retail_assistant.training.model_card import (
    Sample,
    base_model_facts,
    card_facts,
    write_model_card,
)
from retail_assistant.training.tracking.target import DatasetInput, ModelInput, TrackingTarget
from retail_assistant.training.tracking.tracker import Tracker


class LearningMaterial(NamedTuple):
    """What each stage learns from, and what was counted on the way."""

    stages: dict[Stage, StageData]
    counts: dict[str, int]


def train(
    work: Workload,
    job: HyperparameterJob,
    tracker: Tracker,
    preemption: Preemption | None = None,
) -> None:
    """Train the job's adapter into `adapter/`, resuming a broken-off run.

    Raises:
        ValueError: nothing fits the job's length, or the machine cannot do what the job asks for.
        DivergedError: its numbers are no numbers any more.
    """
    from transformers import AutoTokenizer, set_seed

    set_seed(job.seed)
    base = work.spec.paths["base_model"]
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    corpus = _table(work, "prompt_corpus")
    encoder = Encoder(tokenizer, prompt_style(corpus))
    material = learning_material(work, job, corpus, encoder)
    meter = EnergyMeter(newest_kwh(work.folder, job.stages))
    # It counts the whole machine, so one process does.
    with meter if is_first_rank() else nullcontext():
        training = Training(
            work=work,
            job=job,
            tokenizer=tokenizer,
            encoder=encoder,
            shape=model_shape(base),
            tracker=tracker,
            preemption=preemption or Preemption(),
            meter=meter,
        )
        ends = _finish_stages(training, material)
    _leave_the_group()
    if is_first_rank():
        _leave_outputs(training, material, ends)


def learning_material(
    work: Workload, job: HyperparameterJob, corpus: pl.DataFrame, encoder: Encoder
) -> LearningMaterial:
    """Rows and texts of a job's stages as tokens.

    Raises:
        ValueError: none is left.
    """
    rows, too_long = fitting_rows(corpus, job, "train")
    held, held_too_long = fitting_rows(corpus, job, "validation")
    if rows.is_empty():
        raise ValueError(f"no training row fits max_seq_length={job.max_seq_length}")
    counts = {
        "train_rows": rows.height,
        "rows_too_long": too_long,
        "validation_rows": held.height,
        "validation_rows_too_long": held_too_long,
    }
    stages: dict[Stage, StageData] = {}
    if "domain" in job.stages:
        documents = documents_of(_table(work, "domain_corpus"), job, encoder)
        stages["domain"] = StageData(train=document_dataset(_not_empty(documents)))
        counts |= {"domain_texts": documents.texts, "domain_texts_cut": documents.texts_cut}
    evaluated = not held.is_empty()
    stages["instruction"] = StageData(
        train=training_dataset(rows, encoder),
        validation=training_dataset(held, encoder) if evaluated else None,
        questions=questions_of(held, job.sample_generations, encoder) if evaluated else None,
    )
    return LearningMaterial(stages, counts)


def _not_empty(documents: Documents) -> Documents:
    if not documents.pieces:
        raise ValueError("the corpus domain_text has no texts; allowed: stages [instruction]")
    return documents


def _finish_stages(training: Training, material: LearningMaterial) -> list[StageEnd]:
    ends: list[StageEnd] = []
    for stage in training.job.stages:
        data = material.stages[stage]
        settings = stage_settings(training.job, stage, can_evaluate=data.validation is not None)
        adapter = ends[-1].adapter if ends else None
        before = sum(end.mark.step for end in ends)
        ends.append(finish_stage(training, settings, data, adapter, before))
    return ends


def _leave_the_group() -> None:
    """Processes that exit while they still form a group abort now and then."""
    from accelerate import PartialState

    PartialState().destroy_process_group()


def _leave_outputs(training: Training, material: LearningMaterial, ends: list[StageEnd]) -> None:
    """The adapter, what it was measured to be, and how it came about."""
    work, job = training.work, training.job
    marks = [end.mark for end in ends]
    history = joined_history(end.history for end in ends)
    samples = ends[-1].samples.with_columns(pl.col("step") + sum(m.step for m in marks[:-1]))
    work.metrics |= training_measures(marks, history, training.shape, job, on_gpu=on_gpu())
    resumed = [end.resumed_from for end in ends if end.resumed_from]
    work.metrics |= material.counts
    work.metrics["prompt_style"] = training.encoder.style
    work.metrics["resumed_from"] = resumed[-1] if resumed else None
    work.metrics["energy_measured"] = training.meter.measured
    adapter = work.folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir()
    require_finite(ends[-1].adapter / WEIGHTS)
    for name in ADAPTER_FILES:
        shutil.copyfile(ends[-1].adapter / name, adapter / name)
    _write_card(work, adapter, samples)
    history.write_parquet(work.folder / "history.parquet")
    samples.write_parquet(work.folder / "samples.parquet")
    for name in ("history", "samples"):
        work.output(name, work.folder / f"{name}.parquet")
    for path in sorted(adapter.iterdir()):
        work.output(path.name, path)


def _write_card(work: Workload, adapter: Path, samples: pl.DataFrame) -> None:
    last = samples.filter(pl.col("step") == pl.col("step").max())
    shown = [Sample(prompt=row["prompt"], answer=row["answer"]) for row in last.to_dicts()]
    write_model_card(adapter, card_facts(work.spec, work.metrics, shown))


def _table(work: Workload, name: str) -> pl.DataFrame:
    paths, versions = work.spec.paths, work.spec.inputs
    return TableRef(path=paths[name], sha256=versions[name], rows=0).read()


def _start_tracking(work: Workload) -> Tracker:
    target = TrackingTarget.of(work.spec) if is_first_rank() else None
    tracker = Tracker(target, work.folder, work.say)
    inputs, paths = work.spec.inputs, work.spec.paths
    tracker.start(
        work.spec.config["hyperparameters"],
        datasets=[
            DatasetInput(
                name=name,
                digest=inputs[name],
                source=str(paths[name]),
                rows=pl.scan_parquet(paths[name]).select(pl.len()).collect().item(),
            )
            for name in ("prompt_corpus", "domain_corpus")
            if name in paths
        ],
        model=ModelInput(
            name=str(base_model_facts(work.spec).get("name", paths["base_model"].name)),
            digest=inputs["base_model"],
            source=str(paths["base_model"]),
        ),
    )
    return tracker


def _finish_tracking(work: Workload, tracker: Tracker) -> None:
    numbers = {key: value for key, value in work.metrics.items() if is_number(value)}
    tracker.metrics(numbers, int(work.metrics["steps"]))
    for path in ("history.parquet", "samples.parquet", "adapter/README.md"):
        tracker.artifact(work.folder / path)
    tracker.artifact(work.folder / "adapter" / "adapter_config.json")
    tracker.close("FINISHED")
    work.metrics["mlflow_run_id"] = tracker.run_id
    work.metrics["mlflow_experiment_id"] = tracker.experiment_id


def main() -> None:
    """Entry point of the workload."""
    preemption = Preemption.listening()
    with workload("Fine-tune one hyperparameter job.") as work:
        job = HyperparameterJob.model_validate(work.spec.config["hyperparameters"])
        tracker = _start_tracking(work)
        try:
            with out_of_memory_told(work.spec.execution, job):
                train(work, job, tracker, preemption)
        except SystemExit as ended:
            tracker.close("KILLED" if ended.code == PREEMPTED_EXIT_CODE else "FAILED")
            raise
        except BaseException:
            tracker.close("FAILED")
            raise
        if is_first_rank():
            _finish_tracking(work, tracker)


if __name__ == "__main__":
    main()
