"""A fused adapter computes what PEFT's layer does, and stays PEFT's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.training.fitting.fused_lora import fuse_adapters
from retail_assistant_tests.training.trainings import one_thread

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def thread() -> Iterator[None]:
    with one_thread():
        yield


def adapted(**changes: Any) -> Any:
    """A small network of two linear layers, one with a bias, whose adapters do something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 40), nn.SiLU(), nn.Linear(40, 8, bias=False))
    config = {"r": 4, "lora_alpha": 6, "target_modules": ["0", "2"], "init_lora_weights": False}
    return get_peft_model(network, LoraConfig(**config | changes))


def result_and_gradients(model: Any, *, input_learns: bool) -> dict[str, Any]:
    import torch

    given = torch.linspace(-1, 1, 3 * 5 * 24).sin().view(3, 5, 24).requires_grad_(input_learns)
    torch.manual_seed(1)  # of the dropout
    found = model(given)
    model.zero_grad()
    found.square().sum().backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    return {"result": found.detach(), "input": given.grad, **gradients}


@pytest.mark.parametrize("input_learns", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"lora_dropout": 0.3},
        {"lora_bias": True},
        {"use_dora": True},
    ],
    ids=["plain", "rslora", "dropout", "bias", "dora"],
)
def test_results_and_gradients_are_those_of_peft(
    changes: dict[str, Any], input_learns: bool
) -> None:
    import torch

    model = adapted(**changes)
    expected = result_and_gradients(model, input_learns=input_learns)
    assert fuse_adapters(model) == 2
    found = result_and_gradients(model, input_learns=input_learns)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert name == "input"
            assert found[name] is None
        else:
            assert value.abs().max() > 1e-3, name
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_a_plain_layer_is_one_operation() -> None:
    import torch

    model = adapted()
    fuse_adapters(model)
    found = model(torch.ones(2, 24))
    assert found.grad_fn.name() == "FrozenLinearWithLoraBackward"
    with model.disable_adapter():
        assert model(torch.ones(2, 24)).grad_fn is None


def test_it_is_saved_and_merged_as_pefts(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    given = torch.ones(2, 24)
    files = []
    for fused in (False, True):
        model = adapted()
        if fused:
            fuse_adapters(model)
        model.save_pretrained(tmp_path / str(fused))
        files.append(load_file(tmp_path / str(fused) / "adapter_model.safetensors"))
        before = model(given)
        model.merge_adapter()
        torch.testing.assert_close(model(given), before, atol=1e-5, rtol=1e-5)
    assert files[0].keys() == files[1].keys()
    for name, weight in files[0].items():
        torch.testing.assert_close(files[1][name], weight, atol=0, rtol=0)
