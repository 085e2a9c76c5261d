"""Ray for data-parallel work: a cluster that is there, or a small one on this machine."""

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from retail_assistant.storage import temporary_folder

RAY_ADDRESS = "RAY_ADDRESS"
SECONDS_TO_CONNECT = 10.0
FOLDER_PREFIX = "retail-ray-"
OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's shared memory: what passes through it here are addresses and receipts, not images."""


class RayClusterError(RuntimeError):
    """The cluster that the environment names cannot be used; the message says which and why."""


@contextmanager
def ray_cluster() -> Iterator[int]:
    """Connect to the cluster at `RAY_ADDRESS`, else start one here and end it afterwards.

    A cluster at `RAY_ADDRESS` must have this package, the same Ray and Python versions, and see
    the same storage. The one that is started here listens on the loopback interface only, asks
    for a token that only its processes know, and ends with this process, however that ends.

    Yields:
        The cluster's CPU cores, at least 1.

    Raises:
        RayClusterError: no connection to `RAY_ADDRESS`, or Ray does not start.
    """
    started_here = not os.environ.get(RAY_ADDRESS)
    with ExitStack() as stack:
        if started_here:
            # For Ray's logs, and its sockets: their names must be short.
            temporary = Path(tempfile.gettempdir())
            folder = stack.enter_context(temporary_folder(temporary, FOLDER_PREFIX))
            os.environ.update(local_environment(folder, secrets.token_hex(32)))
        import ray

        stack.callback(ray.shutdown)
        _connect(started_here=started_here)
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes before it says that nobody is there."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), SECONDS_TO_CONNECT).close()


def _connect(*, started_here: bool) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if started_here:
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            _check_reachable(os.environ[RAY_ADDRESS])
            ray.init(address=os.environ[RAY_ADDRESS], **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if started_here else f"at {RAY_ADDRESS}={os.environ[RAY_ADDRESS]}"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RayClusterError(f"no Ray cluster {where}: {reason}") from error


def local_environment(folder: Path, token: str) -> dict[str, str]:
    """What a cluster of one machine is told; Ray reads these when it is imported or started."""
    return {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        # "Not a cluster": with it Ray binds to 127.0.0.1, on Linux too.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Another user of this machine could otherwise run code in ours.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
    }
