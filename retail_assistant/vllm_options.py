"""How vLLM is started, wherever it is: to answer questions, or to write dialogues."""

import os
from pathlib import Path
from typing import Any

CPU_SEQUENCES = 64
CPU_CACHE_GIB = 1


def vllm_options(model: Path, max_length: int, *, on_gpu: bool) -> dict[str, Any]:
    """The engine's arguments for a folder of safetensors; call it before vLLM is imported.

    vLLM reads more from the environment, which is set where nobody has set it. `max_length` is
    that of prompt plus answer, in tokens.
    """
    for name, value in vllm_environment(on_gpu=on_gpu).items():
        os.environ.setdefault(name, value)
    return engine_arguments(model, max_length, on_gpu=on_gpu)


def engine_arguments(model: Path, max_length: int, *, on_gpu: bool) -> dict[str, Any]:
    """The engine's arguments; the environment that goes with them is `vllm_environment`."""
    options: dict[str, Any] = {
        "model": str(model),
        "dtype": "bfloat16" if on_gpu else "float32",
        "max_model_len": max_length,
        "enable_prefix_caching": True,
        "seed": 0,
        "disable_log_stats": True,
        "trust_remote_code": False,
    }
    if not on_gpu:
        # Compiling takes longer than answering a few hundred questions without.
        options |= {"enforce_eager": True, "max_num_seqs": CPU_SEQUENCES}
    return options


def vllm_environment(*, on_gpu: bool) -> dict[str, str]:
    """What vLLM reads from the environment, where nobody has set it."""
    wanted = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if on_gpu:
        return wanted
    cpus = sorted(os.sched_getaffinity(0))
    return wanted | {
        "VLLM_CPU_KVCACHE_SPACE": str(CPU_CACHE_GIB),
        # Without binding its threads vLLM reaches half the speed.
        "VLLM_CPU_OMP_THREADS_BIND": f"{cpus[0]}-{cpus[-1]}",
        "OMP_NUM_THREADS": str(len(cpus)),
        # One process: its start costs as much as answering a hundred questions.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
