"""LoRA adapters of random weights for tests, as PEFT saves them."""

import json
from pathlib import Path
from typing import Any

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def save_adapter(
    base: Path, folder: Path, seed: int, deviation: float = 0.3, **config: Any
) -> Path:
    """An adapter for a base model; `deviation` of B's weights, 0: the adapter changes nothing."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 4, "lora_alpha": 8, "target_modules": list(ALL_LINEAR)} | config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(task_type="CAUSAL_LM", **settings),
        )
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if "lora_B" in name:
                    weights.normal_(0, deviation) if deviation else weights.zero_()
    model.save_pretrained(folder)
    return folder


def with_config(adapter: Path, folder: Path, **changes: Any) -> Path:
    """A copy of an adapter whose configuration says something else."""
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder
