"""What a process or a task works on, said with everything that it logs.

`run_id`, `job`, `asset`, `partition`, `fingerprint`, `request_id`: from a Dagster run they go to
the processes that it launches in one environment variable.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

LOG_CONTEXT = "RETAIL_LOG_CONTEXT"
"""JSON: field -> value."""

_process: dict[str, str] = {}
_NONE: Mapping[str, str] = MappingProxyType({})
_task: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=_NONE)


def log_fields() -> dict[str, str]:
    """The fields that hold here and now."""
    return {**_process, **_task.get()}


def bind_process(**fields: str) -> None:
    """Say these fields with everything that this process logs from now on."""
    _process.update(fields)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Say these fields with everything that is logged in the body, and in tasks begun in it."""
    before = _task.get()
    _task.set({**before, **fields})
    try:
        yield
    finally:
        # Not by a token: a generator may be closed by another task than the one that began it.
        _task.set(before)


def context_environment(fields: Mapping[str, str | None]) -> dict[str, str]:
    """The variable by which a process that is launched gets these fields."""
    return {LOG_CONTEXT: json.dumps({name: value for name, value in fields.items() if value})}


def bind_environment() -> None:
    """Take over what the launching process has said; what cannot be read is nothing."""
    try:
        given = json.loads(os.environ.get(LOG_CONTEXT, "{}"))
    except ValueError:
        return
    if isinstance(given, dict):
        bind_process(**{str(name): str(value) for name, value in given.items()})
