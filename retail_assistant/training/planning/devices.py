"""What trains: GPUs or the CPU, how many, how much memory each has, how fast it can be."""

import math
import os
import re
import time
from functools import cache
from pathlib import Path
from typing import Literal, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field

AUTO = "auto"
ALLOWED = (
    "auto (those of this machine), cpu, or a cluster's: <number> x <GPU's name or memory>, such as"
    " '8 x NVIDIA H100 80GB', '2 x 24 GiB' or '2 nodes x 8 x NVIDIA A100-SXM4-80GB'"
)
GIB = 2**30
# Dense bf16 TFLOP/s and GiB by the makers' data sheets (without sparsity), the first that matches.
# A card's name says where its speed depends on its form. None: it has no bf16.
_GPUS: tuple[tuple[str, float | None, float | None], ...] = (
    (r"B200", 2250.0, 180),
    (r"H200", 989.4, 141),
    (r"GH200", 989.4, 96),
    (r"H100 NVL", 835.5, 94),
    (r"H100 PCIe", 756.0, 80),
    (r"H100", 989.4, 80),
    (r"A100", 311.9, None),
    (r"L40S", 362.1, 48),
    (r"L40\b", 181.0, 48),
    (r"L4\b", 121.0, 24),
    (r"A40\b", 149.7, 48),
    (r"A30\b", 165.0, 24),
    (r"A10G", 70.0, 24),
    (r"A10\b", 125.0, 24),
    (r"RTX A6000", 154.8, 48),
    (r"RTX 4090", 165.2, 24),
    (r"RTX 3090", 71.0, 24),
    (r"V100", None, None),
    (r"T4\b", None, 16),
    (r"P100", None, 16),
)
_NO_BF16 = re.compile(r"V100|T4\b|P100|P40|RTX 20|GTX", re.IGNORECASE)
_FIRST_WITH_BF16 = 8  # compute capability: Ampere
_CLUSTER = re.compile(
    r"^(?:(?P<nodes>[1-9]\d*)\s+nodes?\s*x\s*)?(?P<count>[1-9]\d*)\s*x\s*(?P<name>\S.*)$",
    re.IGNORECASE,
)
_MEMORY = re.compile(r"(?P<size>\d+(?:\.\d+)?)\s*Gi?B", re.IGNORECASE)
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_MATMUL_SIZE = 2048
_MATMUL_SECONDS = 0.5


class Devices(BaseModel):
    """The devices that a job may train on: `nodes` machines with `count` equal ones each.

    Of a CPU `count` is 1 a node: its processes share cores and memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cpu", "cuda"]
    count: int = Field(default=1, ge=1, description="Devices a node.")
    nodes: int = Field(default=1, ge=1)
    name: str
    memory_gib: float = Field(gt=0, description="Memory of one device, GiB.")
    bf16: bool = Field(description="Whether it computes in bfloat16 at full speed.")
    peak_tflops: float | None = Field(
        default=None, description="Dense bf16 TFLOP/s of one device; None: not in the table."
    )

    @property
    def total(self) -> int:
        """Devices on all nodes."""
        return self.count * self.nodes

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes x " if self.nodes > 1 else ""
        return f"{nodes}{self.count} x {self.name} ({self.memory_gib:.1f} GiB each)"

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Devices as a setting names them (`RETAIL_DEVICES`); `auto` is `local_devices`.

        A card's memory is its nominal one: "80GB" is taken as 80 GiB, of which a real card reports
        about 1% less.

        Raises:
            ValueError: it cannot be read; says what is allowed.
        """
        wanted = text.strip()
        if wanted.lower() == AUTO:
            return cls.model_validate(local_devices().model_dump())
        if wanted.lower() == "cpu":
            return cls.model_validate(_cpu().model_dump())
        read = _CLUSTER.match(wanted)
        if read is None:
            raise ValueError(f"{text!r} names no devices; allowed: {ALLOWED}")
        name = read["name"].strip()
        stated = _MEMORY.search(name)
        only_memory = stated is not None and stated.group().strip() == name
        peak, usual = known_gpu(name)
        memory = float(stated["size"]) if stated else usual
        if memory is None:
            raise ValueError(f"{text!r}: how much memory has it? Allowed: {ALLOWED}")
        return cls(
            kind="cuda",
            count=int(read["count"]),
            nodes=int(read["nodes"] or 1),
            name="GPU" if only_memory else name,
            memory_gib=memory,
            bf16=_NO_BF16.search(name) is None,
            peak_tflops=peak,
        )


def known_gpu(name: str) -> tuple[float | None, float | None]:
    """Dense bf16 TFLOP/s and memory in GiB of a GPU, as far as its name says them."""
    for pattern, peak, memory in _GPUS:
        if re.search(pattern, name, re.IGNORECASE):
            return peak, memory
    return None, None


@cache
def local_devices() -> Devices:
    """GPUs of this machine if the driver shows any, else its CPU; torch is not asked."""
    return _gpus() or _cpu()


def _gpus() -> Devices | None:
    """What the NVIDIA driver shows, less what `CUDA_VISIBLE_DEVICES` hides (the first one's kind:
    nodes with several kinds are planned for by hand).
    """
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        if shown is not None:
            count = min(count, len([part for part in shown.split(",") if part.strip(" -1")]))
        if count == 0:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(handle)
        major, _ = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB
    finally:
        pynvml.nvmlShutdown()
    return Devices(
        kind="cuda",
        count=count,
        name=name,
        memory_gib=round(memory, 2),
        bf16=major >= _FIRST_WITH_BF16,
        peak_tflops=known_gpu(name)[0],
    )


def _cpu() -> Devices:
    return Devices(
        kind="cpu",
        name=f"CPU with {psutil.cpu_count()} cores",
        memory_gib=round(_main_memory() / GIB, 2),
        # Nearly all emulate it: measured 5 times slower than float32 without AVX512-BF16.
        bf16=False,
    )


def _main_memory() -> float:
    """Bytes that this process may have: the machine's, or less in a container."""
    limits: list[float] = [psutil.virtual_memory().total]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(float(path.read_text()))
        except (OSError, ValueError):
            continue  # not there, or `max`
    return min(limits)


def peak_flops(devices: Devices) -> float | None:
    """FLOP/s that one device can do at most: what MFU is a share of.

    Of a GPU the dense bf16 peak of its data sheet, None where it is not known; of a CPU what a
    float32 matrix product reaches here, measured for half a second with all of torch's threads.
    """
    if devices.kind == "cuda":
        return None if devices.peak_tflops is None else devices.peak_tflops * 1e12
    return _measured_cpu_flops()


@cache
def _measured_cpu_flops() -> float:
    """The best of several products: what disturbs a machine only slows it."""
    import torch

    left, right = torch.rand(2, _MATMUL_SIZE, _MATMUL_SIZE)
    best, ends = math.inf, time.monotonic() + _MATMUL_SECONDS
    with torch.no_grad():
        torch.mm(left, right)
        while time.monotonic() < ends or best == math.inf:
            started = time.perf_counter()
            torch.mm(left, right)
            best = min(best, time.perf_counter() - started)
    return 2 * _MATMUL_SIZE**3 / best
