"""What people are told when something has happened: short, with numbers and a link.

An alert leaves the company's own machines. It holds names of jobs and assets, numbers, and the
first line of errors that are known to quote nothing: no text of the catalog or of shoppers, and no
secrets.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from retail_assistant.corpus.rendering import visible_text
from retail_assistant.operations.costs import Total
from retail_assistant.settings import Settings
from retail_assistant.telemetry.redaction import redacted

Kind = Literal[
    "training_finished",
    "run_failed",
    "check_failed",
    "champion_changed",
    "champion_drifted",
    "budget_reached",
    "held_back",
]
LINE_CHARACTERS = 240
QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|“[^”\n]*”|\u2018[^\u2019\n]*\u2019")
TOLD_ERRORS = frozenset(
    {
        "CostCapError",
        "LaunchError",
        "MergeError",
        "ObjectStoreError",
        "ParityError",
        "PlanError",
        "Preempted",
        "PromotionError",
        "RayClusterError",
        "SettingsError",
        "StorageError",
    }
)
"""Whose first line says where and why, and quotes no data. Of other errors the kind is told."""

TOLD_CHECKS = frozenset({"adapter", "champion", "champion_report", "model_comparison"})
"""Assets whose checks speak of numbers; what those of others say is left to the link."""

HEADLINES = (
    "eval_loss",
    "train_loss",
    "train_seconds",
    "train_tokens",
    "tokens_per_second",
    "energy_kwh",
    "cost",
    "cost_is",
)
"""Of a training, in this order, as far as they are known."""


class Alert(BaseModel):
    """Something that people are told."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    title: str
    facts: dict[str, str | int | float] = {}
    link: str | None = None
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    def as_json(self) -> dict[str, Any]:
        """For a webhook of one's own."""
        return self.model_dump(mode="json")

    def as_slack(self) -> dict[str, Any]:
        """For Slack's incoming webhooks, and what understands the same."""
        lines = [f"*{_escaped(self.title)}*"]
        lines += [f"{_escaped(name)}: {_escaped(_told(one))}" for name, one in self.facts.items()]
        if self.link:
            lines.append(f"<{self.link}|Open>")
        return {"text": "\n".join(lines)}

    def body(self, kind: Literal["slack", "json"]) -> dict[str, Any]:
        """As the webhook takes it."""
        return self.as_slack() if kind == "slack" else self.as_json()


def public_line(text: str) -> str:
    """The first line of a text, without what it quotes, without secrets, not too long."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    line = QUOTED.sub("'…'", redacted(" ".join(visible_text(first).split())))
    return line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 1]}…"


def run_link(run_id: str, settings: Settings) -> str:
    """Where the UI shows a run."""
    return f"{settings.dagster_ui.rstrip('/')}/runs/{run_id}"


def training_finished(job: str, metadata: Mapping[str, Any], link: str) -> Alert:
    """A training that has run to its end, from its materialization's metadata."""
    known = {name: metadata[name] for name in HEADLINES if metadata.get(name) is not None}
    study = {"study": str(metadata["study"])} if metadata.get("study") else {}
    facts = {name: one if isinstance(one, str) else _rounded(one) for name, one in known.items()}
    return Alert(kind="training_finished", title=f"{job}: trained", facts=study | facts, link=link)


def run_failed(
    job: str, partition: str | None, step: str, error: str, message: str, link: str, *, again: bool
) -> Alert:
    """A run that failed; `error` is the kind of the first error, `message` what it said."""
    facts: dict[str, str | int | float] = {"step": step} if step else {}
    if error:
        told = public_line(message) if error in TOLD_ERRORS else ""
        facts["error"] = f"{error}: {told}" if told else error
    if again:
        facts["then"] = "it is tried again"
    return Alert(kind="run_failed", title=f"{_of(job, partition)} failed", facts=facts, link=link)


def check_failed(
    asset: str, partition: str | None, check: str, severity: str, description: str, link: str
) -> Alert:
    """An asset check that did not pass; the champion's own means that it has drifted."""
    facts: dict[str, str | int | float] = {"severity": severity}
    if asset in TOLD_CHECKS and (told := public_line(description)):
        facts["found"] = told
    if (asset, check) == ("champion_report", "champion_holds"):
        title = "The champion does not hold on the questions of now"
        return Alert(kind="champion_drifted", title=title, facts=facts, link=link)
    title = f"{_of(asset, partition)}: {check} failed"
    return Alert(kind="check_failed", title=title, facts=facts, link=link)


def champion_changed(
    event: str, job: str, number: int, measured: Mapping[str, str], registered: str, link: str
) -> Alert:
    """Another model serves: promoted, or back after a rollback."""
    facts: dict[str, str | int | float] = {"event": number, **measured}
    if registered:
        facts["registered"] = registered
    title = f"{job} is the champion ({event})"
    return Alert(kind="champion_changed", title=title, facts=facts, link=link)


def budget_reached(month: str, spent: Total, settings: Settings) -> Alert:
    """The month's work has cost as much as it may."""
    facts: dict[str, str | int | float] = {
        "spent": f"{spent.cost or 0.0:.2f} {settings.currency}",
        "budget": f"{settings.budget or 0.0:.2f} {settings.currency}",
        "runs": spent.pieces,
    }
    if spent.unknown:
        facts["not known"] = spent.unknown
    return Alert(
        kind="budget_reached",
        title=f"The budget of {month} is reached",
        facts=facts,
        link=settings.dagster_ui,
    )


def held_back(counts: Mapping[str, int], per_hour: int, settings: Settings) -> Alert:
    """Alerts that were too many to be told one by one."""
    return Alert(
        kind="held_back",
        title=f"{sum(counts.values())} more alerts were not told: more than {per_hour} an hour",
        facts=dict(counts),
        link=f"{settings.dagster_ui.rstrip('/')}/runs",
    )


def _of(name: str, partition: str | None) -> str:
    return f"{name} ({partition})" if partition else name


def _rounded(value: float) -> int | float:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _told(value: str | float) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _escaped(text: str) -> str:
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
