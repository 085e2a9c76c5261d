"""The memory model: what it counts is what torch, peft and bitsandbytes really hold."""

from typing import Any

import pytest

from retail_assistant.model_shape import ModelShape, shape_of_model
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.memory import (
    Setup,
    adapter_bytes,
    base_bytes,
    estimate_memory,
    kept_bytes,
)
from retail_assistant.training.planning.targets import target_names, trainable_parameters
from retail_assistant_tests.training.shapes import LLAMA_8B, SMOLLM2

JOB = HyperparameterJob(
    lora_r=8, lora_alpha=16, learning_rate=1e-4, batch_size=4, max_seq_length=128
)
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def job_of(**changes: Any) -> HyperparameterJob:
    return HyperparameterJob(**{**JOB.model_dump(), **changes})


def model_of(family: str, dtype: str, job: HyperparameterJob) -> tuple[Any, ModelShape]:
    """A small model with the job's adapter, as training makes it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SIZES)
    eager = job.attention == "eager" or family == "gemma2"
    config._attn_implementation = "eager" if eager else "sdpa"
    base = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    shape = shape_of_model(base)
    targets = target_names(shape, job.target_modules)
    lora = LoraConfig(
        r=job.lora_r, lora_dropout=job.lora_dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora).train()
    if job.gradient_checkpointing == "on":
        model.enable_input_require_grads()
        base.gradient_checkpointing_enable({"use_reentrant": False})
    return model, shape


def kept_by_autograd(model: Any, job: HyperparameterJob, dtype: str) -> int:
    """Bytes that a forward pass of the layers keeps for the backward pass, weights apart."""
    import torch

    ids = torch.randint(1, 512, (job.batch_size, job.max_seq_length))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0  # rows of different lengths
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    # The tensors are held: else their addresses would be given to others.
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor
        return tensor

    layers = model.get_base_model().base_model
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        layers(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"target_modules": "attention"}),
        ("llama", {"lora_dropout": 0.1}),
        ("llama", {"attention": "eager"}),
        ("llama", {"gradient_checkpointing": "on"}),
        ("qwen3", {}),
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("phi3", {}),
    ],
)
def test_activations_are_those_that_autograd_keeps(
    family: str, changes: dict[str, Any], dtype: str
) -> None:
    job = job_of(**changes)
    model, shape = model_of(family, dtype, job)
    setup = Setup(
        bf16=dtype == "bfloat16", gradient_checkpointing=job.gradient_checkpointing == "on"
    )
    real = kept_by_autograd(model, job, dtype)
    assert 0.95 * real < kept_bytes(shape, job, setup) < 1.1 * real


@pytest.mark.parametrize("quantization", ["none", "8bit", "4bit"])
def test_weights_and_optimizer_are_as_large_as_they_are(quantization: str) -> None:
    import torch

    job = job_of(quantization=quantization)
    model, shape = model_of("llama", "float32", job)
    if quantization != "none":
        _quantize(model, quantization)
    setup = Setup()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == trainable_parameters(shape, job)
    frozen = sum(_held(p) for p in model.parameters() if not p.requires_grad)
    assert base_bytes(shape, job, setup) == pytest.approx(frozen, rel=0.01)
    size = adapter_bytes(setup)
    for p in trained:
        p.data = p.data.to({2: torch.bfloat16, 4: torch.float32}[size])
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    moments = sum(
        value.nbytes
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    )
    estimate = estimate_memory(shape, job, setup)
    assert estimate.optimizer * 2**30 == moments
    assert estimate.gradients * 2**30 == sum(p.grad.nbytes for p in trained)


def _quantize(model: Any, quantization: str) -> None:
    """As transformers does on loading: every linear layer but the head and the adapter's."""
    import bitsandbytes as bnb
    import torch

    for module in model.modules():
        layer = getattr(module, "base_layer", None)
        if not isinstance(layer, torch.nn.Linear):
            continue
        if quantization == "4bit":
            weight: Any = bnb.nn.Params4bit(
                layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
            )
        else:
            weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False)
        layer.weight = weight.to("cpu")


def _held(parameter: Any) -> int:
    """Bytes of a weight with its scales."""
    size = parameter.nbytes
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        nested = state.state2
        size += state.absmax.nbytes + (nested.absmax.nbytes if nested is not None else 0)
    scales = getattr(parameter, "SCB", None)
    return int(size + (scales.nbytes if scales is not None else 0))


def total(shape: ModelShape, job: HyperparameterJob | None = None, **setup: Any) -> float:
    return estimate_memory(shape, job or JOB, Setup(**setup)).total


def test_what_saves_memory_is_less() -> None:
    gpu: dict[str, Any] = {"on_gpu": True, "bf16": True}
    assert total(LLAMA_8B, gradient_checkpointing=True, **gpu) < total(LLAMA_8B, **gpu)
    by_bits = [total(LLAMA_8B, job_of(quantization=q), **gpu) for q in ("4bit", "8bit", "none")]
    assert by_bits == sorted(by_bits)
    ddp = total(LLAMA_8B, strategy="ddp", ranks=4, **gpu)
    fsdp2 = total(LLAMA_8B, strategy="fsdp2", ranks=4, **gpu)
    offloaded = total(LLAMA_8B, strategy="fsdp2", ranks=4, offload=True, **gpu)
    assert offloaded < fsdp2 < ddp
    assert total(LLAMA_8B, strategy="fsdp2", ranks=8, **gpu) < fsdp2
    attention = job_of(target_modules="attention")
    assert total(LLAMA_8B, attention, **gpu) < total(LLAMA_8B, **gpu)


def test_offloading_moves_weights_to_main_memory() -> None:
    setup: dict[str, Any] = {"on_gpu": True, "bf16": True, "strategy": "fsdp2", "ranks": 2}
    held, moved = (
        estimate_memory(LLAMA_8B, JOB, Setup(offload=offload, **setup)) for offload in (False, True)
    )
    assert held.host == 0
    sharded = (LLAMA_8B.parameters + trainable_parameters(LLAMA_8B, JOB) * 2 * 4) / 2**30
    # Half of the weights (two bytes each), of the adapter, its gradients and its two moments.
    assert moved.host == pytest.approx(sharded, rel=0.001)
    # On the device the allocator's fragments are gone as well.
    assert held.total - moved.total == pytest.approx(moved.host * 1.05)


def test_the_parts_add_up() -> None:
    estimate = estimate_memory(SMOLLM2, JOB, Setup())
    parts = estimate.model_dump(exclude={"total", "host"})
    assert estimate.total == pytest.approx(sum(parts.values()))
    assert estimate.weights == pytest.approx(SMOLLM2.parameters * 4 / 2**30, rel=0.05)
