"""What one could change about a job, with the numbers: where nothing fits, and where it does."""

from collections.abc import Iterator
from typing import Any

from retail_assistant.model_shape import ModelShape
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.alternatives import (
    Alternative,
    PlanError,
    alternatives,
    trains_on_gpu,
)
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.resources import ResourceRequest

SHORTEST = 512


def suggestions_where_none_fits(
    job: HyperparameterJob, request: ResourceRequest, shape: ModelShape, devices: Devices
) -> list[str]:
    """Changes with which it would fit, each with what it then takes."""
    told = []
    for label, changed, asked in _changes(job, request, devices):
        way = _first_that_fits(changed, asked, shape, devices)
        if way is not None and way.estimate is not None:
            told.append(f"{label}: {way.estimate.total:.1f} GiB with {way.way}")
    return told or ["a smaller base model, or devices with more memory"]


def _changes(
    job: HyperparameterJob, request: ResourceRequest, devices: Devices
) -> Iterator[tuple[str, HyperparameterJob, ResourceRequest]]:
    """What can be tried, the cheapest in quality first."""
    if job.gradient_checkpointing == "off":
        yield "gradient_checkpointing: auto", _with(job, gradient_checkpointing="auto"), request
    if job.attention == "eager":
        yield "attention: sdpa", _with(job, attention="sdpa"), request
    if request.strategy != "auto" or not _asks_for_all(request, devices):
        most = _all_of(request, devices)
        yield f"strategy: auto, processes: {most.processes}, nodes: {most.nodes}", job, most
    small = _with(
        job,
        batch_size=1,
        gradient_accumulation_steps=job.gradient_accumulation_steps * job.batch_size,
    )
    accumulated = f"batch_size: 1, gradient_accumulation_steps: {small.gradient_accumulation_steps}"
    if small != job:
        yield accumulated, small, request
    for bits in ("8bit", "4bit"):
        if job.quantization == "none" or (job.quantization, bits) == ("8bit", "4bit"):
            yield f"quantization: {bits}", _with(job, quantization=bits), request
    if small != job and job.quantization != "4bit":
        yield f"quantization: 4bit, {accumulated}", _with(small, quantization="4bit"), request
    length = job.max_seq_length // 2
    if length >= SHORTEST:
        yield f"max_seq_length: {length}", _with(job, max_seq_length=length), request


def _all_of(request: ResourceRequest, devices: Devices) -> ResourceRequest:
    on_gpu = trains_on_gpu(request, devices)
    return ResourceRequest(
        processes=devices.count if on_gpu else 1,
        nodes=devices.nodes if on_gpu else 1,
        gpus_per_process=request.gpus_per_process,
        memory_gib=request.memory_gib,
    )


def _with(job: HyperparameterJob, **changes: Any) -> HyperparameterJob:
    return job.model_copy(update=changes)


def _asks_for_all(request: ResourceRequest, devices: Devices) -> bool:
    return (request.processes, request.nodes) == (devices.count, devices.nodes)


def _first_that_fits(
    job: HyperparameterJob, request: ResourceRequest, shape: ModelShape, devices: Devices
) -> Alternative | None:
    try:
        return next((one for one in alternatives(job, request, shape, devices) if one.fits), None)
    except PlanError:
        return None


def suggestions_for(
    job: HyperparameterJob,
    request: ResourceRequest,
    shape: ModelShape,
    devices: Devices,
    chosen: Alternative,
) -> list[str]:
    """What one should know of a plan that fits."""
    return [
        *_about_processes(job, request, devices, chosen),
        *_about_quantization(job, request, shape, devices, chosen),
        *_about_savings(chosen),
    ]


def _about_processes(
    job: HyperparameterJob, request: ResourceRequest, devices: Devices, chosen: Alternative
) -> Iterator[str]:
    on_gpu = trains_on_gpu(request, devices)
    used = chosen.processes * chosen.nodes
    rows = job.batch_size * job.gradient_accumulation_steps
    if used > request.processes * request.nodes:
        yield (
            f"one device is not enough: {used} processes share the model, so an optimizer step is"
            f" over {rows * used} rows instead of {rows}"
        )
    elif on_gpu and used < devices.total:
        yield (
            f"{devices.total - used} of {devices.total} GPUs stay idle; with processes:"
            f" {devices.count}"
            + (f" and nodes: {devices.nodes}" if devices.nodes > 1 else "")
            + f" an optimizer step is over {rows * devices.total} rows instead of {rows * used}"
        )
    if on_gpu and not devices.bf16:
        yield f"{devices.name} has no bfloat16: weights and activations take twice the memory"


def _about_quantization(
    job: HyperparameterJob,
    request: ResourceRequest,
    shape: ModelShape,
    devices: Devices,
    chosen: Alternative,
) -> Iterator[str]:
    if job.quantization != "none":
        plain = _first_that_fits(_with(job, quantization="none"), request, shape, devices)
        if plain and plain.estimate and _spread(plain) == _spread(chosen):
            total = f"{plain.estimate.total:.1f} GiB"
            yield f"quantization: none fits as well ({total}) and trains faster"
        return
    if chosen.strategy in ("fsdp2", "zero3"):
        for bits in ("8bit", "4bit"):
            one = _first_that_fits(_with(job, quantization=bits), ResourceRequest(), shape, devices)
            if one and one.estimate and one.strategy == "single":
                total = f"{one.estimate.total:.1f} GiB"
                yield f"quantization: {bits} would do with a single device ({total})"
                return


def _spread(one: Alternative) -> tuple[str, int, int, bool, bool]:
    return (
        one.strategy,
        one.processes,
        one.nodes,
        one.offload,
        one.gradient_checkpointing,
    )


def _about_savings(chosen: Alternative) -> Iterator[str]:
    if chosen.offload:
        yield (
            "weights wait in main memory and cross to the device in every step: several times"
            " slower than on more devices, or in 4-bit"
        )
    if chosen.strategy == "zero3":
        yield "ZeRO-3 needs the package deepspeed where it trains"
