"""The base model as a job trains it: precision, quantization, attention, and its LoRA adapter."""

import os
from pathlib import Path
from typing import Any

from retail_assistant.model_shape import ModelShape
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.targets import target_names

FSDP_CHECKPOINTS_ACTIVATIONS = "FSDP_ACTIVATION_CHECKPOINTING"
USE_CPU = "ACCELERATE_USE_CPU"


def on_gpu() -> bool:
    """Whether this training uses a GPU: there is one, and accelerate was not told to leave it."""
    import torch

    return torch.cuda.is_available() and not _is_set(USE_CPU)


def in_bfloat16() -> bool:
    """Whether it computes in bfloat16, else in float32: a CPU, or a GPU older than Ampere, is
    several times slower in it.
    """
    import torch

    return on_gpu() and torch.cuda.is_bf16_supported(including_emulation=False)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def base_model(folder: Path, job: HyperparameterJob) -> Any:
    """The model without an adapter, in the job's quantization."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    dtype = torch.bfloat16 if in_bfloat16() else torch.float32
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=_quantization(job, dtype),
        attn_implementation=attention(config, job),
        trust_remote_code=False,
    )


def adapted_model(base: Any, adapter: Path) -> Any:
    """The base model with an adapter that goes on being trained."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, adapter, is_trainable=True)


def _quantization(job: HyperparameterJob, dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    if job.quantization == "4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            # FSDP shards what is stored in the precision that it computes in, and nothing else.
            bnb_4bit_quant_storage=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if job.quantization == "8bit" else None


def attention(config: Any, job: HyperparameterJob) -> str:
    """The attention kernel for a job: flash attention where it is installed, else PyTorch's own.

    Models that cap their attention scores (Gemma 2) need flash or eager attention: PyTorch's kernel
    leaves the cap out without a word.

    Raises:
        ValueError: the job asks for a kernel that is not here, or that would be wrong.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    if job.attention == "sdpa" and capped:
        raise ValueError(
            "attention='sdpa': PyTorch's kernel does not cap attention scores, which"
            f" {config.model_type} needs; allowed: auto, eager, flash_attention_2"
        )
    if job.attention == "flash_attention_2" and not _has_flash():
        raise ValueError(
            "attention='flash_attention_2': needs a GPU with bfloat16 and the package flash-attn;"
            " allowed here: auto, sdpa, eager"
        )
    if job.attention != "auto":
        return job.attention
    if _has_flash():
        return "flash_attention_2"
    return "eager" if capped else "sdpa"


def _has_flash() -> bool:
    from transformers.utils import is_flash_attn_2_available

    return in_bfloat16() and bool(is_flash_attn_2_available())


def lora(job: HyperparameterJob, shape: ModelShape) -> Any:
    """A job's adapter for a model of a shape, as peft describes it.

    Raises:
        TargetError: the model has no such linear layers.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=job.lora_r,
        lora_alpha=job.lora_alpha,
        lora_dropout=job.lora_dropout,
        target_modules=target_names(shape, job.target_modules),
        use_rslora=job.use_rslora,
        task_type="CAUSAL_LM",
    )


def recomputes_activations(job: HyperparameterJob, planned: bool | None) -> bool:
    """Whether the trainer recomputes activations in the backward pass: memory for time.

    Args:
        job: may ask for it, or against it.
        planned: what the parallelism plan found; None: no plan, so a GPU does (a CPU has memory,
            not time).
    """
    if _is_set(FSDP_CHECKPOINTS_ACTIVATIONS):
        # FSDP does it already; both at once are refused.
        return False
    if job.gradient_checkpointing != "auto":
        return job.gradient_checkpointing == "on"
    return on_gpu() if planned is None else planned
