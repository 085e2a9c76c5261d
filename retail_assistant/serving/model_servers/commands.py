"""How each kind of model server is started, and where it then listens: on this machine only."""

import json
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retail_assistant.evaluation.adapter_weights import adapted_modules, rank_step
from retail_assistant.launch.ray_head import LOOPBACK, free_port
from retail_assistant.serving.model_servers.endpoint import Endpoint
from retail_assistant.serving.model_servers.server import Command
from retail_assistant.telemetry.tracing import SERVICE, is_traced, traces_url
from retail_assistant.vllm_options import engine_arguments, vllm_environment

MOST_ADAPTERS = 4
"""Of one vLLM server: the champion's, and those whose last turns are being written."""

# vLLM's module, for its command `vllm serve` does not start on the CPU build.
VLLM = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
TRANSFORMERS = (sys.executable, "-m", "transformers.cli.transformers", "serve")
# vLLM looks up its host's address for the traffic between its own processes.
_OWN_ADDRESS = {"VLLM_HOST_IP": LOOPBACK, "VLLM_LOOPBACK_IP": LOOPBACK}
# Without it vLLM speaks gRPC to the collector, whatever the general variable says.
_TRACED = {
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "OTEL_SERVICE_NAME": f"{SERVICE}-vllm",
}


def vllm_command(
    model: Path,
    name: str,
    folder: Path,
    max_length: int,
    *,
    on_gpu: bool,
    adapters: Mapping[str, Path],
    more: Sequence[str] = (),
) -> Command:
    """VLLM's own server, on a socket in a folder that only this user may enter, with a key.

    Args:
        model: folder of the model, or of the base where there are adapters.
        name: what the model is called.
        folder: for the socket.
        max_length: longest prompt plus answer in tokens.
        on_gpu: whether it runs on CUDA.
        adapters: by name; more may be loaded later, if they are of no larger rank.
        more: more options of `vllm serve`; they win.
    """
    arguments = engine_arguments(model, max_length, on_gpu=on_gpu)
    # Where it keeps no statistics its /metrics does not tell how full its cache is, and a traced
    # request fails an assertion of vLLM's.
    arguments["disable_log_stats"] = False
    if adapters:
        arguments |= adapter_arguments(list(adapters.values()))
    socket, key = folder / "model.sock", secrets.token_urlsafe(32)
    words = [*VLLM, *options(arguments), "--served-model-name", name, "--uds", str(socket)]
    words += ["--disable-uvicorn-access-log", "--no-enable-log-requests", "--disable-fastapi-docs"]
    words += ["--otlp-traces-endpoint", url] if (url := traces_url()) else []
    if adapters:
        found = [json.dumps({"name": one, "path": str(path)}) for one, path in adapters.items()]
        words += ["--lora-modules", *found]
    environment = {
        **vllm_environment(on_gpu=on_gpu),
        **_OWN_ADDRESS,
        # Not among the words: those are shown to all users of the machine.
        "VLLM_API_KEY": key,
        **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if adapters else {}),
        **(_TRACED if is_traced() else {}),
    }
    return Command([*words, *more], Endpoint("http://model", key, socket), environment)


def adapter_arguments(adapters: Sequence[Path]) -> dict[str, Any]:
    """VLLM's arguments for adapters: room for some more of the same kind."""
    return {
        "enable_lora": True,
        "max_loras": MOST_ADAPTERS,
        "max_cpu_loras": MOST_ADAPTERS,
        "max_lora_rank": max(map(rank_step, adapters)),
        # As in `evaluation.vllm_engine`: without them vLLM also wraps the vocabulary head.
        "lora_target_modules": sorted(set().union(*map(adapted_modules, adapters))),
    }


def options(arguments: Mapping[str, Any]) -> list[str]:
    """An engine's arguments as options of its command."""
    words: list[str] = []
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        elif value is not False:
            words += [option, str(value)]
    return words


def transformers_command(model: Path) -> Command:
    """The server of the library itself, on a free port of the loopback address.

    It knows no keys, so every user of this machine can ask it.
    """
    port = free_port()
    words = [*TRANSFORMERS, str(model), "--host", LOOPBACK, "--port", str(port)]
    words += ["--log-level", "error", "--default-seed", "0", "--dtype", "auto"]
    return Command(words, Endpoint(f"http://{LOOPBACK}:{port}"), {"HF_HUB_OFFLINE": "1"})


def given_command(text: str, model: Path | None, name: str, key: str | None) -> Command:
    """Any OpenAI-compatible server: `{model}`, `{name}`, `{host}` and `{port}` are filled in."""
    port = free_port()
    filled = {"{model}": model or "", "{name}": name, "{host}": LOOPBACK, "{port}": port}
    words = shlex.split(text)
    for place, value in filled.items():
        words = [word.replace(place, str(value)) for word in words]
    return Command(words, Endpoint(f"http://{LOOPBACK}:{port}", key))
