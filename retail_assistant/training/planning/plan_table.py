"""A plan as people read it: a table of all ways, what was chosen, what one could change."""

from collections.abc import Iterable

import polars as pl

from retail_assistant.training.planning.alternatives import Alternative
from retail_assistant.training.planning.memory import MemoryEstimate
from retail_assistant.training.planning.plan import ParallelismPlan

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "overhead", "total", "host")
_SCHEMA = {
    "strategy": pl.String,
    "processes": pl.Int64,
    "gradient_checkpointing": pl.Boolean,
    "offload": pl.Boolean,
    "fits": pl.Boolean,
    "chosen": pl.Boolean,
    **{f"{part}_gib": pl.Float64 for part in PARTS},
    "why_not": pl.String,
}


def alternatives_frame(found: Iterable[Alternative]) -> pl.DataFrame:
    """A row for every way, in order of preference; the first that fits is `chosen`.

    Memory in GiB of one device, null where a way is out of the question; `processes` on all nodes.
    """
    rows = []
    for one, chosen in _with_choice(found):
        parts = {f"{part}_gib": _part(one.estimate, part) for part in PARTS}
        rows.append(
            {
                "strategy": one.strategy,
                "processes": one.processes * one.nodes,
                "gradient_checkpointing": one.gradient_checkpointing,
                "offload": one.offload,
                "fits": one.fits,
                "chosen": chosen,
                **parts,
                "why_not": one.why_not,
            }
        )
    return pl.DataFrame(rows, schema=_SCHEMA)


def _with_choice(found: Iterable[Alternative]) -> Iterable[tuple[Alternative, bool]]:
    """Each way, and whether it is the one that is taken: the first that fits."""
    ways = list(found)
    chosen = next((one for one in ways if one.fits), None)
    return [(one, one is chosen) for one in ways]


def _part(estimate: MemoryEstimate | None, part: str) -> float | None:
    return None if estimate is None else round(getattr(estimate, part), 3)


def plan_table(plan: ParallelismPlan) -> str:
    """The plan as markdown."""
    share = plan.trainable_parameters / plan.parameters
    lines = [
        f"**{plan.strategy}**, {plan.ranks} process{'es' if plan.ranks > 1 else ''} on"
        f" {plan.devices}: {plan.estimate.total:.1f} of {plan.available_gib:.1f} GiB"
        f" at most, {'bfloat16' if plan.bf16 else 'float32'},"
        f" quantization {plan.quantization},"
        f" gradient checkpointing {'on' if plan.gradient_checkpointing else 'off'}."
        f" {plan.trainable_parameters:,} of {plan.parameters:,} parameters are trained"
        f" ({share:.2%}).",
        "",
        "| | processes | weights | gradients | optimizer | activations | logits | overhead |"
        " **total GiB** | |",
        "|-|-|-|-|-|-|-|-|-|-|",
        *_rows(plan.alternatives),
        "",
        *(f"- {suggestion}" for suggestion in plan.suggestions),
    ]
    return "\n".join(lines)


def _rows(found: Iterable[Alternative]) -> Iterable[str]:
    for one, chosen in _with_choice(found):
        verdict = "**chosen**" if chosen else ("fits" if one.fits else one.why_not)
        numbers = [
            "" if one.estimate is None else f"{getattr(one.estimate, part):.2f}"
            for part in PARTS[:-1]
        ]
        cells = [one.way, str(one.processes * one.nodes), *numbers, verdict]
        yield f"| {' | '.join(cells)} |"
