"""What a process that `accelerate launch` starts sees of its configuration; printed as JSON.

`python -m accelerate.commands.launch --config_file FILE -m
retail_assistant_tests.training.accelerate_probe state|fsdp FOLDER`, a file a rank.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def state() -> dict[str, Any]:
    """The distribution that really came about, and a sum over all processes."""
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=os.environ.get("ACCELERATE_USE_CPU") != "False")
    total = accelerator.reduce(torch.tensor(float(accelerator.process_index + 1)), "sum")
    told = {
        "type": accelerator.distributed_type.value,
        "processes": accelerator.num_processes,
        "device": str(accelerator.device),
        "precision": accelerator.mixed_precision,
        "sum": float(total),
    }
    accelerator.end_training()
    return told


def fsdp() -> dict[str, Any]:
    """The sharding that accelerate would do on GPUs."""
    from accelerate import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin()
    return {
        "processes": int(os.environ["WORLD_SIZE"]),
        "precision": os.environ["ACCELERATE_MIXED_PRECISION"],
        "version": plugin.fsdp_version,
        "reshard": plugin.reshard_after_forward,
        "offload": type(plugin.cpu_offload).__name__,
        "wraps": getattr(plugin.auto_wrap_policy, "__name__", None),
        "state_dict": plugin.state_dict_type.name,
        "activation_checkpointing": plugin.activation_checkpointing,
        "lean_loading": plugin.cpu_ram_efficient_loading,
    }


if __name__ == "__main__":
    asked, folder = sys.argv[1:]
    told = {"state": state, "fsdp": fsdp}[asked]()
    Path(folder, f"rank-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(told))
