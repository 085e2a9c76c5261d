"""What a finished training measured: for the manifest, the UI, MLflow and the model card."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import psutil

from retail_assistant.model_shape import ModelShape
from retail_assistant.training.fitting.checkpoints import CheckpointMark
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.devices import local_devices, peak_flops
from retail_assistant.training.planning.targets import trainable_parameters

# LoRA: forward 2N FLOP a token and backward 2N, for gradients of the frozen weights themselves are
# not computed (full fine-tuning: 6N).
FLOP_A_PARAMETER = 4


def training_flops(shape: ModelShape, tokens: int, learned_tokens: int) -> int:
    """FLOP of a LoRA training: 4 a weight and token (Kaplan et al. 2020, without the weights' own
    gradients).

    Embeddings are looked up, so they do not count; the vocabulary head runs for learned tokens
    only. Attention between tokens and the adapter itself are left out, as is usual.
    """
    of_head = shape.vocabulary * shape.hidden
    blocks = shape.parameters - shape.embedding_parameters
    return FLOP_A_PARAMETER * (blocks * tokens + of_head * learned_tokens)


def training_measures(
    marks: Sequence[CheckpointMark],
    history: pl.DataFrame,
    shape: ModelShape,
    job: HyperparameterJob,
    *,
    on_gpu: bool,
) -> dict[str, Any]:
    """The numbers of a training from its stages' last marks; of a CPU the peak is measured now.

    `train_seconds` has all of it, evaluations included; `tokens_per_second` and `mfu` are of the
    training alone. Losses are nats a learned token of the last stage.
    """
    last = marks[-1]
    seconds = sum(mark.seconds for mark in marks)
    evaluating = sum(mark.evaluation_seconds for mark in marks)
    tokens, learned = (
        sum(getattr(mark, name) for mark in marks) for name in ("tokens", "learned_tokens")
    )
    flops = training_flops(shape, tokens, learned)
    training = max(1e-9, seconds - evaluating)
    peak = peak_flops(local_devices()) if _is_local(on_gpu) else None
    gpu_peaks = [mark.gpu_peak_memory_mib for mark in marks if mark.gpu_peak_memory_mib is not None]
    return {
        "train_seconds": round(seconds, 1),
        "evaluation_seconds": round(evaluating, 1),
        "train_tokens": tokens,
        "learned_tokens": learned,
        "tokens_per_second": round(tokens / training, 1),
        "flops_per_token": round(flops / max(1, tokens)),
        "mfu": round(flops / training / (peak * last.processes), 4) if peak else None,
        "steps": sum(mark.step for mark in marks),
        "stopped_early": last.stopped_early,
        "trainable_parameters": trainable_parameters(shape, job),
        "parameters": shape.parameters,
        "peak_memory_mib": max(mark.peak_memory_mib for mark in marks),
        "gpu_peak_memory_mib": max(gpu_peaks, default=None),
        "processes": last.processes,
        "gpus": last.processes if on_gpu else 0,
        "cpus": psutil.cpu_count(),
        "energy_kwh": last.kwh,
        **_losses(history, best=job.keeps_best),
    }


def _is_local(on_gpu: bool) -> bool:
    """Whether this machine's devices are what trained: not where a GPU was left alone."""
    return on_gpu == (local_devices().kind == "cuda")


def _losses(history: pl.DataFrame, *, best: bool) -> dict[str, Any]:
    """Of the last stage: the mean training loss, and the validation loss of the adapter kept."""
    last = history.filter(pl.col("stage") == history["stage"][-1])
    evaluated = last.drop_nulls("eval_loss")
    best_one = evaluated.sort("eval_loss", "step").head(1)
    kept = best_one if best else evaluated.tail(1)
    return {
        "train_loss": last.select(pl.col("loss").mean()).item(),
        "eval_loss": kept["eval_loss"].item() if kept.height else None,
        "best_step": best_one["step"].item() if best_one.height else None,
    }
