"""What is counted from a shape is what peft and torch count from the model itself."""

from pathlib import Path
from typing import Any

import pytest

from retail_assistant.model_shape import ModelShape, model_shape, shape_of_config, shape_of_model
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.targets import (
    TargetError,
    lora_parameters,
    target_names,
    trainable_parameters,
)
from retail_assistant_tests.training.shapes import OPEN_LLAMA_3B, SMOLLM2

SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
# Parameter names and sizes differ: tied and untied heads, widened heads, fused projections, norms
# of queries, Conv1D layers, blocks that are called otherwise.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "gemma": {},
    "gemma2": {"head_dim": 32},
    "gemma3_text": {},
    "qwen3": {"tie_word_embeddings": True},
    "phi3": {"pad_token_id": 0},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4},
    "gpt_neox": {},
}
TARGETS = ["all-linear", "attention"]
Q_AND_V = ["q_proj", "v_proj"]
ALL_WITH_HEAD = [*Q_AND_V, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]


def config_of(family: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family]})


def meta_model(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def counted_by_peft(config: Any, targets: Any, rank: int) -> int:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(meta_model(config), lora)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_that_torch_and_peft_count(family: str) -> None:
    config = config_of(family)
    shape = shape_of_config(config)
    model = meta_model(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape == ModelShape.model_validate_json(shape.model_dump_json())
    for targets in TARGETS:
        job = HyperparameterJob(lora_r=8, lora_alpha=16, learning_rate=1e-4, target_modules=targets)
        expected = counted_by_peft(config, target_names(shape, job.target_modules), 8)
        assert trainable_parameters(shape, job) == expected > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_attention_is_four_projections_wherever_they_are_called_otherwise(family: str) -> None:
    shape = shape_of_config(config_of(family))
    names = target_names(shape, "attention")
    ends = {name.rsplit(".", 1)[-1] for name in names}
    assert ends in (
        {"q_proj", "k_proj", "v_proj", "o_proj"},
        {"qkv_proj", "o_proj"},
        {"c_attn", "c_proj"},
        {"query_key_value", "dense"},
    )
    attention = lora_parameters(shape, names, 8)
    assert 0 < attention < lora_parameters(shape, "all-linear", 8)


@pytest.mark.parametrize(
    ("targets", "rank", "published"),
    [
        (Q_AND_V, 8, 2_662_400),
        (Q_AND_V, 16, 5_324_800),
        (ALL_WITH_HEAD, 8, 12_994_560),
        ("all-linear", 8, 12_712_960),
    ],
)
def test_published_counts_for_openllama_3b_are_found_again(
    targets: Any, rank: int, published: int
) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=3200,
        intermediate_size=8640,
        num_hidden_layers=26,
        num_attention_heads=32,
    )
    shape = shape_of_config(config)
    assert shape == OPEN_LLAMA_3B
    assert lora_parameters(shape, targets, rank) == published
    assert counted_by_peft(config, targets, rank) == published


def test_targets_match_as_in_peft_single_layers_too() -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(**SMALL)
    shape = shape_of_config(config)
    for targets in (
        ["layers.0.self_attn.q_proj"],
        ["1.mlp.up_proj", "o_proj"],
        ["model.layers.2.mlp.down_proj"],
    ):
        assert lora_parameters(shape, targets, 4) == counted_by_peft(config, targets, 4)


def test_layers_that_are_not_in_every_block_are_counted() -> None:
    import torch

    model = meta_model(config_of("llama"))
    del model.model.layers[1].mlp.up_proj
    with torch.device("meta"):
        model.model.layers[2].self_attn.extra_proj = torch.nn.Linear(5, 7)
    shape = shape_of_model(model)
    assert lora_parameters(shape, ["up_proj"], 1) == 2 * (64 + 96)
    assert lora_parameters(shape, ["extra_proj"], 3) == 3 * (5 + 7)


def test_unknown_targets_are_refused_with_those_there_are() -> None:
    with pytest.raises(TargetError, match=r"no linear layer 'query'.*allowed: .*q_proj"):
        target_names(OPEN_LLAMA_3B, ["query", "v_proj"])
    with pytest.raises(TargetError, match="'proj'"):
        target_names(OPEN_LLAMA_3B, ["proj"])


def test_a_tied_head_counts_once_and_a_gated_block_is_told_from_a_plain_one() -> None:
    gpt2, llama = (shape_of_config(config_of(family)) for family in ("gpt2", "llama"))
    assert gpt2.tied
    assert not llama.tied
    assert gpt2.embedding_parameters == 512 * 64
    assert llama.embedding_parameters == 2 * 512 * 64
    assert llama.gated
    assert not gpt2.gated
    gemma3 = shape_of_config(config_of("gemma3_text"))
    assert (gemma3.norms, gemma3.query_key_norms) == (4, True)
    assert (llama.norms, llama.query_key_norms) == (2, False)


def test_a_laid_out_model_is_described_without_its_weights(tiny_model_folder: Path) -> None:
    shape = model_shape(tiny_model_folder)
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads) == (64, 2, 4, 2)
    assert shape.head is not None
    assert shape.head.name == "lm_head"
    assert [group.count for group in shape.linears] == [2] * 7


def test_the_embedded_model_has_the_shape_that_is_written_down() -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    assert shape_of_config(config) == SMOLLM2
    assert SMOLLM2.parameters == 134_515_008
