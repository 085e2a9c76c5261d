"""A LoRA adapter as weights: what it adds to each layer of its base model (Hu et al. 2021)."""

import json
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from retail_assistant.training.jobs import served_rank

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "bias": ("none",),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "layer_replication": (None, []),
    "fan_in_fan_out": (False,),
    "alpha_pattern": ({}, None),
    "rank_pattern": ({}, None),
}
"""What makes an adapter more than `scale * B @ A` beside linear layers, and its values if not."""


class AdapterError(ValueError):
    """An adapter cannot be served; names it, the field, its value and what is allowed."""


class LowRankUpdate(NamedTuple):
    """What is added to a layer's weight: `scale * up @ down`."""

    down: Any
    up: Any
    scale: float


def adapter_config(adapter: Path) -> dict[str, Any]:
    """The configuration of a PEFT adapter that is a plain LoRA.

    Raises:
        AdapterError: it is not there, or of another kind.
    """
    path = adapter / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from error
    for field, allowed in _PLAIN.items():
        value = config.get(field, allowed[0])
        if value not in allowed:
            raise AdapterError(f"{path}: {field}={value!r}; allowed: {allowed[0]!r}")
    return config


def rank_step(adapter: Path) -> int:
    """The rank whose memory vLLM takes for an adapter."""
    return served_rank(int(adapter_config(adapter)["r"]))


def adapted_modules(adapter: Path) -> set[str]:
    """The kinds of layers that an adapter is for, such as `q_proj`."""
    from safetensors import safe_open

    with safe_open(adapter / WEIGHTS, "pt") as file:
        return {key.rsplit(".", 3)[-3] for key in file.keys()}  # noqa: SIM118 (no dictionary)


def low_rank_updates(adapter: Path) -> dict[str, LowRankUpdate]:
    """An adapter's updates by the name of the base's weight, such as `model….q_proj.weight`."""
    from safetensors import safe_open

    config = adapter_config(adapter)
    root = sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    scale = config["lora_alpha"] / root
    updates: dict[str, LowRankUpdate] = {}
    with safe_open(adapter / WEIGHTS, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (no dictionary)
            if not key.endswith((_DOWN, _UP)):
                raise AdapterError(f"{adapter / WEIGHTS}: {key}; allowed: …{_DOWN}, …{_UP}")
            if key.endswith(_DOWN):
                layer = key.removesuffix(_DOWN)
                updates[f"{layer.removeprefix(_PREFIX)}.weight"] = LowRankUpdate(
                    file.get_tensor(key), file.get_tensor(layer + _UP), scale
                )
    return updates


def weights(base: Path, adapter: Path | None) -> Iterator[tuple[str, Any]]:
    """The weights of a base model by their names, an adapter's added, one in memory at a time.

    Read from the base's files each time: what an earlier adapter did to the weights in memory
    leaves no trace. Sums are made and given in float32.

    Raises:
        AdapterError: the adapter is for layers that the base has not.
    """
    from safetensors import safe_open

    updates = low_rank_updates(adapter) if adapter is not None else {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no dictionary)
                weight, update = file.get_tensor(name), updates.pop(name, None)
                if update is not None:
                    product = update.up.float() @ update.down.float()
                    weight = weight.float() + update.scale * product
                yield name, weight
    if updates:
        raise AdapterError(f"{adapter} is for weights that {base} has not: {min(updates)}")
