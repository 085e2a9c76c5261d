"""Devices as they are named in a setting, and as this machine has them."""

import pytest
from pydantic import ValidationError

from retail_assistant.settings import Settings
from retail_assistant.training.planning.devices import Devices, known_gpu, local_devices, peak_flops


@pytest.mark.parametrize(
    ("text", "count", "nodes", "name", "memory", "peak"),
    [
        ("8x NVIDIA H100 80GB", 8, 1, "NVIDIA H100 80GB", 80, 989.4),
        ("8 x NVIDIA H100 80GB HBM3", 8, 1, "NVIDIA H100 80GB HBM3", 80, 989.4),
        ("1 x NVIDIA H100 PCIe", 1, 1, "NVIDIA H100 PCIe", 80, 756.0),
        ("2 x 24 GiB", 2, 1, "GPU", 24, None),
        ("2 nodes x 8 x NVIDIA A100-SXM4-40GB", 8, 2, "NVIDIA A100-SXM4-40GB", 40, 311.9),
        ("4 x NVIDIA L4", 4, 1, "NVIDIA L4", 24, 121.0),
        ("4 x NVIDIA L40S", 4, 1, "NVIDIA L40S", 48, 362.1),
    ],
)
def test_a_cluster_is_read_from_its_name(
    text: str, count: int, nodes: int, name: str, memory: float, peak: float | None
) -> None:
    devices = Devices.parsed(text)
    assert (devices.kind, devices.bf16) == ("cuda", True)
    assert (devices.count, devices.nodes, devices.name) == (count, nodes, name)
    assert (devices.memory_gib, devices.peak_tflops) == (memory, peak)
    assert devices.total == count * nodes
    assert peak_flops(devices) == (None if peak is None else peak * 1e12)


@pytest.mark.parametrize("text", ["", "many", "H100", "0 x NVIDIA L4", "2 x Something", "-1 x 8GB"])
def test_what_names_no_devices_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"[Aa]llowed: auto"):
        Devices.parsed(text)
    with pytest.raises(ValidationError, match=r"[Aa]llowed: auto"):
        Settings(devices=text)


def test_old_cards_have_no_bfloat16() -> None:
    assert not Devices.parsed("1 x Tesla T4").bf16
    assert not Devices.parsed("8 x Tesla V100-SXM2-32GB").bf16
    assert known_gpu("Tesla V100-SXM2-32GB") == (None, None)


def test_this_machine_is_described() -> None:
    import psutil

    devices = local_devices()
    assert Devices.parsed("auto") == devices
    if devices.kind == "cpu":
        assert 0 < devices.memory_gib <= psutil.virtual_memory().total / 2**30 + 0.01
        assert not devices.bf16
        assert Devices.parsed("cpu") == devices


def test_the_speed_of_a_cpu_is_measured() -> None:
    speed = peak_flops(Devices.parsed("cpu"))
    assert speed is not None
    assert 1e9 < speed < 1e14
    assert peak_flops(Devices.parsed("cpu")) == speed
