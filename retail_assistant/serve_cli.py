"""`retail-assistant serve`: the assistant as a server."""

import asyncio
import logging
from typing import Annotated, Any

import typer
from rich.console import Console

from retail_assistant.settings import get_settings
from retail_assistant.telemetry.logs import FOR_SERVERS, log_format, set_up_logs

errors = Console(stderr=True)
logger = logging.getLogger(__name__)
QUIET = (
    "httpx",
    "httpx2",
    "openai",
    "presidio-analyzer",
    "bitsandbytes",
    "sentence_transformers",
    "opentelemetry",
)
"""Loggers that tell each request, or of themselves."""


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0: any free one.")] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="What writes: vllm, transformers, command, url or nim."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(help="For command, with {model}, {name}, {host}, {port} filled in."),
    ] = None,
    model_url: Annotated[
        str | None, typer.Option(help="For url and nim: the endpoint, up to and without /v1.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="For vllm: auto, adapter (beside the base) or merged.")
    ] = None,
) -> None:
    """Serve the champion: an OpenAI-compatible API and a chat page, until Ctrl-C.

    Every other setting of the server is an environment variable, RETAIL_SERVING_…:
    `retail-assistant settings` prints them.
    """
    from retail_assistant.serving import server
    from retail_assistant.serving.options import serving_settings
    from retail_assistant.workbench import HOST, require_free_port

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "variant": variant,
        "command": command,
        "model_url": model_url,
        "weights": weights,
    }
    serving = serving_settings(**{name: one for name, one in given.items() if one is not None})
    if serving.host == HOST and serving.port:
        require_free_port(serving.port, "--port (make serve SERVE_PORT=…)")
    set_up_logs(FOR_SERVERS, level=logging.INFO, quiet=QUIET)
    asyncio.run(server.serve(get_settings(), serving, _say))


def _say(text: str) -> None:
    if log_format() == "json":
        logger.info("%s", text)
        return
    errors.print(text, soft_wrap=True, highlight=False, markup=False)
