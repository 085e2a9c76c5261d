"""Which layers of a model a job adapts, and how many parameters it trains; arithmetic, no torch."""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from retail_assistant.model_shape import LAYER, LinearGroup, ModelShape
from retail_assistant.training.jobs import HyperparameterJob

ALL_LINEAR: Final = "all-linear"
ATTENTION: Final = "attention"


class TargetError(ValueError):
    """Target modules that a model does not have; the message names them and those that it has."""


def target_names(
    shape: ModelShape, targets: Literal["all-linear", "attention"] | Iterable[str]
) -> list[str] | Literal["all-linear"]:
    """What peft takes as `target_modules`: `attention` in the model's own names, sorted.

    Raises:
        TargetError: the model has no such linear layer.
    """
    if targets == ALL_LINEAR:
        return ALL_LINEAR
    if targets == ATTENTION:
        found = sorted({_short_name(group) for group in shape.linears if group.in_attention})
        if not found:
            raise TargetError(
                f"target_modules=attention: {shape.architecture} has no attention block with"
                f" linear layers; allowed: {_names(shape)}"
            )
        return found
    wanted = sorted(set(targets))
    for target in wanted:
        if not any(_matches(target, name) for name in _modules(shape)):
            raise TargetError(
                f"target_modules: {shape.architecture} has no linear layer {target!r};"
                f" allowed: {_names(shape)}"
            )
    return wanted


def lora_parameters(
    shape: ModelShape, targets: list[str] | Literal["all-linear"], rank: int
) -> int:
    """Parameters of a LoRA adapter as peft counts them: rank x (inputs + outputs) a layer.

    A name matches as in peft: the whole name of a module, or its end after a dot; `all-linear`
    leaves the vocabulary head out. Published counts for OpenLLaMA-3B (hidden 3200, 26 layers,
    intermediate 8640, vocabulary 32000) are so explained: 2,662,400 is rank 8 on q_proj and v_proj,
    5,324,800 rank 16 on the same, and 12,994,560 rank 8 on the seven linear layers of each block
    *and* the head (`lm_head`: 281,600 of them); peft's own `all-linear` gives 12,712,960.
    """
    groups = shape.linears
    if targets != ALL_LINEAR and shape.head is not None:
        groups += (shape.head,)
    return sum(rank * (g.inputs + g.outputs) * _adapted_modules(g, targets) for g in groups)


def trainable_parameters(shape: ModelShape, job: HyperparameterJob) -> int:
    """How many parameters a job trains, equal to peft's own count.

    Raises:
        TargetError: the model has not the job's target modules.
    """
    return lora_parameters(shape, target_names(shape, job.target_modules), job.lora_r)


def adapted(shape: ModelShape, job: HyperparameterJob) -> tuple[LinearGroup, ...]:
    """The linear layers that get an adapter.

    Raises:
        TargetError: the model has not the job's target modules.
    """
    targets = target_names(shape, job.target_modules)
    return tuple(group for group in shape.linears if _adapted_modules(group, targets))


def _adapted_modules(group: LinearGroup, targets: list[str] | Literal["all-linear"]) -> int:
    if targets == ALL_LINEAR:
        return group.count
    return sum(any(_matches(target, name) for target in targets) for name in group.modules())


def _matches(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _modules(shape: ModelShape) -> Iterator[str]:
    for group in shape.linears:
        yield from group.modules()


def _short_name(group: LinearGroup) -> str:
    """Block and layer, such as `self_attn.q_proj`: in some models the layer's name alone stands in
    the feed-forward block too.
    """
    return group.name.rsplit(f".{LAYER}.", maxsplit=1)[-1] if LAYER in group.name else group.name


def _names(shape: ModelShape) -> str:
    own = sorted({group.name.rsplit(".", maxsplit=1)[-1] for group in shape.linears})
    return ", ".join([ALL_LINEAR, ATTENTION, *own])
