"""The application on a port."""

import math

import uvicorn
from fastapi import FastAPI

from retail_assistant.serving.options import ServingSettings

_MORE_CONNECTIONS = 1_000


def uvicorn_server(app: FastAPI, settings: ServingSettings) -> uvicorn.Server:
    """A server that is ready to `run()`, or to be awaited with `serve()` by who has a loop.

    On SIGTERM it takes no more requests, and turns that run may end.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # The faster httptools sets no limit on a request's headers; h11 stops at 64 KiB.
        http="h11",
        ws="none",
        # The application has its own access log, without what clients write.
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn believes X-Forwarded-For from this machine unless told otherwise.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        # Longer than clients and proxies keep a connection: whoever closes first must not be us,
        # for a request may be on its way.
        timeout_keep_alive=75,
        limit_concurrency=settings.max_running + settings.max_waiting + _MORE_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(settings.turn_seconds),
    )
    return uvicorn.Server(config)
