"""A training whose numbers are no numbers any more ends and says so: nothing is made of it.

Without this the Trainer writes zero or a mean into its log instead, goes on to the end, and leaves
an adapter that answers with noise.
"""

import math
from pathlib import Path

_REMEDIES = (
    "a lower learning_rate, a longer warmup_ratio or a lower max_grad_norm keeps it from that,"
    " unless the base model's own weights are damaged"
)


class DivergedError(RuntimeError):
    """A loss or a weight is infinite or no number; says where, and what to change."""


def require_finite_loss(name: str, loss: float, step: int) -> None:
    """Refuse a loss that is no number.

    Raises:
        DivergedError: names it and the step.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"{name} is {loss} at step {step}; {_REMEDIES}")


def require_finite(weights: Path) -> None:
    """Refuse an adapter that holds what is no number.

    Raises:
        DivergedError: names the file and the first such weight.
    """
    import torch
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dictionary)
            if not torch.isfinite(file.get_tensor(name)).all():
                raise DivergedError(f"{weights}: {name} is not finite; {_REMEDIES}")
