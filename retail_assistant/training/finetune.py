"""Fine-tune one hyperparameter job: LoRA on TRL's SFTTrainer, under `accelerate launch`.

`accelerate launch -m retail_assistant.training.finetune --spec spec.json` leaves `adapter/`
(safetensors) and `history.parquet` (a row per logged step).
"""

import math
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.lengths import prompt_column, row_tokens
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.tracking import Tracker, TrackingTarget

LOGS_A_RUN = 40
CHECKPOINTS_A_RUN = 4
COMPLETE_MARK = "complete"


def training_rows(corpus: pl.DataFrame, job: HyperparameterJob, subset: str) -> pl.DataFrame:
    """The rows that a job trains or validates on, in a fixed order.

    Returns the columns `row_id`, `prompt`, `completion` (message lists) and `tokens`. A row of the
    task `assistant` is named by its dialogue, of another task by its product.
    """
    row_id = "dialogue_id" if "dialogue_id" in corpus.columns else "product_id"
    rows = corpus.filter(pl.col("subset") == subset).sort(row_id)
    kept = max(1, math.ceil(rows.height * job.data_fraction)) if subset == "train" else rows.height
    return rows.head(kept).select(
        pl.col(row_id).alias("row_id"),
        pl.col(prompt_column(job.grounding)).alias("prompt"),
        "completion",
        row_tokens(job.grounding).alias("tokens"),
    )


def split_by_length(rows: pl.DataFrame, limit: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that fit `limit` tokens, and those that would lose their answer."""
    fits = pl.col("tokens") <= limit
    return rows.filter(fits), rows.filter(~fits)


def training_dataset(rows: pl.DataFrame, encoder: Encoder) -> Any:
    """Tokens and what of them is learned, as TRL takes them: it then tokenizes nothing itself.

    Left to itself TRL would learn the line break that a template writes after an answer's end too,
    and write no Alpaca sections.
    """
    from datasets import Dataset

    pairs = rows.select("prompt", "completion").iter_rows()
    return Dataset.from_list(
        [
            {
                "input_ids": ids,
                "completion_mask": [0] * length + [1] * (len(ids) - length),
            }
            for ids, length in encoder.examples(pairs)
        ]
    )


def _model(folder: Path, job: HyperparameterJob) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    quantization = None
    if job.quantization == "4bit":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=dtype,
        )
    elif job.quantization == "8bit":
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=quantization, trust_remote_code=False
    )


def _arguments(folder: Path, job: HyperparameterJob, *, evaluate: bool) -> Any:
    import torch
    from trl import SFTConfig

    on_gpu = torch.cuda.is_available()
    # Numbers of steps below 1 are shares of the whole run: the trainer knows how many processes and
    # packed rows there are.
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=job.warmup_ratio,
        weight_decay=job.weight_decay,
        max_grad_norm=job.max_grad_norm,
        max_length=job.max_seq_length,
        completion_only_loss=True,
        packing=job.packing,
        # Recomputing activations buys memory with time; the CPU has memory, not time.
        gradient_checkpointing=on_gpu,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        logging_steps=1 / LOGS_A_RUN,
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="steps",
        save_steps=1 / CHECKPOINTS_A_RUN,
        save_total_limit=2,
        seed=job.seed,
        data_seed=job.seed,
        report_to="none",
        disable_tqdm=True,
    )


def _trainer_class() -> Any:
    import torch
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    if torch.cuda.is_available():
        # There TRL's own fused head skips the masked positions.
        return SFTTrainer

    class CompletionTrainer(SFTTrainer):
        """SFTTrainer that runs the vocabulary head only where an answer is learned.

        On a CPU TRL multiplies every position by the vocabulary and masks afterwards; with a
        catalog record in the prompt nine of ten are masked (benchmarks/finetune_step.py).
        """

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            targets = inputs["labels"][:, 1:]
            columns = (targets != -100).any(dim=0).nonzero().squeeze(-1)
            kept = {key: value for key, value in inputs.items() if key != "labels"}
            outputs = model(**kept, logits_to_keep=columns, use_cache=False)
            wanted = targets[:, columns]
            total = cross_entropy(
                outputs.logits.float().flatten(0, 1), wanted.flatten(), reduction="sum"
            )
            count = (wanted != -100).sum() if num_items_in_batch is None else num_items_in_batch
            loss = total / count
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

    return CompletionTrainer


def _callback_class() -> Any:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        """Progress to Dagster, numbers to MLflow and to the history."""

        def __init__(self, work: Workload, tracker: Tracker, earlier: float) -> None:
            self.work, self.tracker = work, tracker
            self._earlier, self._started = earlier, time.monotonic()
            self.history: list[dict[str, float]] = []

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._started = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not state.is_world_process_zero or not logs or "train_runtime" in logs:
                return
            numbers = {key: float(value) for key, value in logs.items() if _is_number(value)}
            self.history.append({"step": float(state.global_step), **numbers})
            self.tracker.metrics(numbers, state.global_step)
            shown = "eval_loss" if "eval_loss" in numbers else "loss"
            note = f"steps, {shown} {numbers.get(shown, math.nan):.4f}"
            self.work.progress(state.global_step, state.max_steps, note)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                (folder / COMPLETE_MARK).write_text(f"{self.seconds():.1f}")

        def seconds(self) -> float:
            """Seconds of training so far, those before a break included."""
            return self._earlier + time.monotonic() - self._started

    return Reporter


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE_MARK}")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def _seconds_until(checkpoint: Path | None) -> float:
    """Seconds of training that a checkpoint stands for."""
    return float((checkpoint / COMPLETE_MARK).read_text() or 0) if checkpoint else 0.0


def _lora(job: HyperparameterJob) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=job.lora_r,
        lora_alpha=job.lora_alpha,
        lora_dropout=job.lora_dropout,
        target_modules=job.target_modules,
        use_rslora=job.use_rslora,
        task_type="CAUSAL_LM",
    )


def train(work: Workload, job: HyperparameterJob, tracker: Tracker) -> None:
    """Train the job's adapter from the corpus into `adapter/`, resuming a broken-off run."""
    from transformers import AutoTokenizer, set_seed

    set_seed(job.seed)
    corpus = TableRef(
        path=work.spec.paths["prompt_corpus"], sha256=work.spec.inputs["prompt_corpus"], rows=0
    ).read()
    rows, too_long = split_by_length(training_rows(corpus, job, "train"), job.max_seq_length)
    held, held_too_long = split_by_length(
        training_rows(corpus, job, "validation"), job.max_seq_length
    )
    if rows.is_empty():
        raise ValueError(f"no training row fits max_seq_length={job.max_seq_length}")
    base = work.spec.paths["base_model"]
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoder = Encoder(tokenizer, prompt_style(corpus))
    checkpoint = last_complete_checkpoint(work.folder / "checkpoints")
    reporter = _callback_class()(work, tracker, _seconds_until(checkpoint))
    trainer = _trainer_class()(
        model=_model(base, job),
        args=_arguments(work.folder, job, evaluate=not held.is_empty()),
        train_dataset=training_dataset(rows, encoder),
        eval_dataset=training_dataset(held, encoder) if not held.is_empty() else None,
        processing_class=tokenizer,
        peft_config=_lora(job),
        callbacks=[reporter],
    )
    work.say(
        f"training on {rows.height} rows, {rows['tokens'].sum()} tokens an epoch;"
        f" {too_long.height} rows are too long"
        + (f"; going on from {checkpoint.name}" if checkpoint else "")
    )
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.is_world_process_zero():
        return
    adapter = work.folder / "adapter"
    trainer.model.save_pretrained(adapter, safe_serialization=True)
    _write_outputs(work, trainer, reporter.history)
    work.metrics |= _measures(trainer, result, rows, reporter.seconds())
    work.metrics["rows_too_long"] = too_long.height
    work.metrics["validation_rows_too_long"] = held_too_long.height
    work.metrics["prompt_style"] = encoder.style
    work.metrics["resumed_from"] = checkpoint.name if checkpoint else None


def _write_outputs(work: Workload, trainer: Any, history: list[dict[str, float]]) -> None:
    logged = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    frame = pl.from_dicts(logged or history, infer_schema_length=None)
    wanted = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"]
    frame.select(column for column in wanted if column in frame.columns).write_parquet(
        work.folder / "history.parquet"
    )
    work.output("history", work.folder / "history.parquet")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        work.output(name, work.folder / "adapter" / name)


def _measures(trainer: Any, result: Any, rows: pl.DataFrame, seconds: float) -> dict[str, Any]:
    import resource

    parameters = list(trainer.model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    tokens = int(rows["tokens"].sum() * trainer.args.num_train_epochs)
    evaluations = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    return {
        "train_seconds": round(seconds, 1),
        "train_rows": rows.height,
        "train_tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "train_loss": float(result.training_loss),
        "eval_loss": evaluations[-1] if evaluations else None,
        "steps": trainer.state.global_step,
        "trainable_parameters": trainable,
        "parameters": sum(p.numel() for p in parameters),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "processes": trainer.accelerator.num_processes,
        "cpus": psutil.cpu_count(),
    }


def main() -> None:
    """Entry point of the workload."""
    with workload("Fine-tune one hyperparameter job.") as work:
        job = HyperparameterJob.model_validate(work.spec.config["hyperparameters"])
        target = work.spec.tracking
        tracker = Tracker(
            TrackingTarget(
                uri=target["uri"],
                experiment=target["experiment"],
                run_name=target["run_name"],
                tags={k.removeprefix("tag."): v for k, v in target.items() if "tag." in k},
            )
            if target
            else None,
            work.say,
        )
        tracker.parameters(work.spec.config["hyperparameters"])
        try:
            train(work, job, tracker)
        except BaseException:
            tracker.close("FAILED")
            raise
        numbers = {k: v for k, v in work.metrics.items() if _is_number(v)}
        tracker.metrics(numbers, int(work.metrics.get("steps", 0)))
        tracker.close("FINISHED")
        work.metrics["mlflow_run_id"] = tracker.run_id
        work.metrics["mlflow_experiment_id"] = tracker.experiment_id


if __name__ == "__main__":
    main()
