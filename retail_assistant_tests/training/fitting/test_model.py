"""The model as a job asks for it: attention that is right, adapters where they are wanted."""

from pathlib import Path
from typing import Any

import pytest

from retail_assistant.model_shape import model_shape
from retail_assistant.training.fitting.model import (
    attention,
    base_model,
    lora,
    recomputes_activations,
)
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant_tests.training.trainings import JOB


def job(**changes: Any) -> HyperparameterJob:
    return HyperparameterJob.model_validate(JOB.model_dump() | changes)


def test_attention_is_pytorchs_where_there_is_no_gpu() -> None:
    from transformers import Gemma2Config, LlamaConfig

    assert attention(LlamaConfig(), job()) == "sdpa"
    assert attention(LlamaConfig(), job(attention="eager")) == "eager"
    # Its scores are capped, which PyTorch's kernel does not.
    assert attention(Gemma2Config(), job()) == "eager"


def test_attention_that_would_be_wrong_is_refused() -> None:
    from transformers import Gemma2Config, LlamaConfig

    with pytest.raises(ValueError, match=r"'sdpa'.*cap.*gemma2.*allowed: auto, eager"):
        attention(Gemma2Config(), job(attention="sdpa"))
    with pytest.raises(ValueError, match=r"'flash_attention_2': needs a GPU.*allowed here: auto"):
        attention(LlamaConfig(), job(attention="flash_attention_2"))


def test_what_a_job_and_a_plan_say_of_recomputing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not recomputes_activations(job(), None)  # a CPU
    assert recomputes_activations(job(), planned=True)
    assert not recomputes_activations(job(gradient_checkpointing="off"), planned=True)
    assert recomputes_activations(job(gradient_checkpointing="on"), planned=False)
    monkeypatch.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    assert not recomputes_activations(job(gradient_checkpointing="on"), planned=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (
            "all-linear",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
    ],
)
def test_adapters_stand_where_a_job_wants_them(
    tiny_model_folder: Path, targets: Any, layers: set[str]
) -> None:
    from peft import get_peft_model

    config = lora(job(target_modules=targets), model_shape(tiny_model_folder))
    model = get_peft_model(base_model(tiny_model_folder, job()), config)
    adapted = {
        name.split(".lora_A")[0].rsplit(".", 1)[-1]
        for name, _ in model.named_parameters()
        if "lora_A" in name
    }
    assert adapted == layers


@pytest.mark.slow
@pytest.mark.parametrize(("stabilized", "scale"), [(False, 8 / 4), (True, 8 / 4**0.5)])
def test_the_update_is_scaled(tiny_model_folder: Path, stabilized: bool, scale: float) -> None:
    from peft import get_peft_model

    config = lora(job(use_rslora=stabilized), model_shape(tiny_model_folder))
    model = get_peft_model(base_model(tiny_model_folder, job()), config)
    scales = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert scales == {scale}
