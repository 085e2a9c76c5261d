"""Logs on standard error: for people, or a line of JSON an event, as Google Cloud Logging reads it.

One set-up for commands, workloads, the assistant and Dagster's runs. `RETAIL_LOG_FORMAT` is read
here, not from the settings: a workload on another machine need not have all that those name.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from retail_assistant.telemetry.context import log_fields
from retail_assistant.telemetry.redaction import redacted, redacted_value
from retail_assistant.telemetry.tracing import current_ids, is_traced, run_trace_id

LogFormat = Literal["text", "json"]
PACKAGE = "retail_assistant"
FOR_COMMANDS = "%(message)s"
"""As Python writes warnings where nothing is set up."""

FOR_SERVERS = "%(asctime)s %(name)s: %(message)s"
# https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
TRACE, SPAN, SAMPLED = (
    f"logging.googleapis.com/{name}" for name in ("trace", "spanId", "trace_sampled")
)
_SEVERITIES = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (0, "DEBUG"))
# What libraries hang on records for their own use.
_OF_LIBRARIES = ("dagster_", "color_message", "taskName", "exc_info")


def log_format() -> LogFormat:
    """`RETAIL_LOG_FORMAT`; without it JSON in the cluster, text elsewhere."""
    given = os.environ.get("RETAIL_LOG_FORMAT")
    if given in ("text", "json"):
        return "json" if given == "json" else "text"
    return "json" if os.environ.get("RETAIL_ENVIRONMENT") == "cluster" else "text"


def set_up_logs(
    text: str = FOR_COMMANDS, *, level: int = logging.WARNING, quiet: Sequence[str] = ()
) -> None:
    """Write what is logged to standard error; done again it replaces what was set up before.

    Args:
        text: the line where the format is text.
        level: the lowest that is told; in JSON our own loggers begin with INFO.
        quiet: loggers of which only warnings are told.
    """
    is_json = log_format() == "json"
    handler = _ToStandardError()
    handler.setFormatter(CloudFormatter() if is_json else RedactingFormatter(text))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, _OURS)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger(PACKAGE).setLevel(logging.INFO if is_json else logging.NOTSET)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught if is_json else _print_uncaught
    if is_json:
        logging.captureWarnings(capture=True)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What ends the process, in one line too: collectors would take each line for an event."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    words = f"{kind.__name__}: {error}"
    logging.getLogger(PACKAGE).critical("%s", words, exc_info=(kind, error, trace))


def _print_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What ends the process as Python prints it, without secrets."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


class _ToStandardError(logging.Handler):
    """To what standard error is at that moment: tests and servers put others in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """One event."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class RedactingFormatter(logging.Formatter):
    """Lines for people, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        return redacted(super().format(record))


class CloudFormatter(JsonFormatter):
    """A line of JSON an event, without secrets: `severity`, `time`, `logger`, `message`; what is
    worked on; the trace; and what was logged beside the message (`extra`).
    """

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Everything of one event, in the order in which people read it."""
        beside: dict[str, Any] = {}
        super().add_fields(beside, record, message_dict)
        meta = getattr(record, "dagster_meta", None) or {}
        fields = {
            "severity": next(name for level, name in _SEVERITIES if record.levelno >= level),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "logger": record.name,
            "message": meta.get("orig_message") or record.message,
            **log_fields(),
            **_of_dagster(meta),
        }
        stack = message_dict.get("exc_info") or _error_of_dagster(meta)
        if stack:
            fields["stack_trace"] = stack
        fields |= _trace(fields.get("run_id"))
        fields |= {
            name: value
            for name, value in beside.items()
            if not name.startswith(_OF_LIBRARIES) and name not in fields
        }
        log_data.update(redacted_value(fields))


_OURS = (RedactingFormatter, CloudFormatter)


class _ConsoleLogger(logging.Logger):
    """A logger whose colored console writes events."""

    def addHandler(self, handler: logging.Handler) -> None:  # noqa: N802 (logging's name)
        """Dagster's bookkeeping, at the level "debug", is for its database."""
        if type(handler.formatter).__module__ == "coloredlogs":
            handler.setFormatter(CloudFormatter())
            handler.setLevel(logging.INFO)
        super().addHandler(handler)


def take_over_consoles() -> None:
    """Let loggers that are made from now on, each with a colored console of its own, write events.

    So does Dagster for each run that names no logger, which is every run of the UI, of schedules
    and of automation. Its instance file can add handlers, but not take this one away.
    """
    logging.setLoggerClass(_ConsoleLogger)


def _of_dagster(meta: dict[str, Any]) -> dict[str, str]:
    """What Dagster says of the step that logs."""
    tags = meta.get("job_tags") or {}
    found = {
        "run_id": meta.get("run_id"),
        "job": meta.get("job_name"),
        "asset": meta.get("step_key"),
        "partition": tags.get("dagster/partition"),
    }
    return {name: str(value) for name, value in found.items() if value}


def _error_of_dagster(meta: dict[str, Any]) -> str | None:
    event = meta.get("dagster_event")
    error: Any = getattr(getattr(event, "event_specific_data", None), "error", None)
    return str(error.to_string()) if hasattr(error, "to_string") else None


def _trace(run_id: Any) -> dict[str, Any]:
    trace_id, span_id = current_ids()
    if trace_id is None and run_id and is_traced():
        trace_id = run_trace_id(str(run_id))
    if trace_id is None:
        return {}
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    told: dict[str, Any] = {TRACE: f"projects/{project}/traces/{trace_id}" if project else trace_id}
    return told | ({SPAN: span_id, SAMPLED: True} if span_id else {})


def readable(text: str) -> str:
    """Lines of a log as people read them, without secrets: of JSON the message and the stack trace.

    What a process prints, or what ends it, passed no formatter of ours.
    """
    return redacted("\n".join(_readable_line(line) for line in text.split("\n")))


def _readable_line(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or not {"severity", "message"} <= event.keys():
        return line
    message, stack = str(event["message"]), str(event.get("stack_trace") or "").rstrip()
    if not stack:
        return message
    return stack if stack.endswith(message) else f"{message}\n{stack}"
