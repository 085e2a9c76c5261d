"""Alerts: a sensor that reads what runs have done and tells a webhook, each thing once."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from retail_assistant.evaluation.champion_history import ChampionHistory
from retail_assistant.operations.alerts import (
    Alert,
    budget_reached,
    champion_changed,
    check_failed,
    run_failed,
    run_link,
    training_finished,
)
from retail_assistant.operations.costs import MONTH, all_work, of_month, total
from retail_assistant.operations.webhook import Bookmark, DeliveryError, Send, sender
from retail_assistant.settings import Settings, get_settings

TRAINED = ("adapter", "trial_adapter")
CHAMPION = "champion"
SECONDS_BETWEEN_LOOKS = 30
SECONDS_A_LOOK = 40.0
"""Dagster ends a look after 60."""

RUNS_A_LOOK = 50
OVERLAP_SECONDS = 300.0
"""Runs of several machines do not end in the order of their clocks."""

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_TOLD = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
}


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=(
        dg.DefaultSensorStatus.RUNNING
        if get_settings().alert_webhook
        else dg.DefaultSensorStatus.STOPPED
    ),
    description="Tell people (RETAIL_ALERT_WEBHOOK) of finished trainings, failed runs and checks,"
    " a champion that changed or drifted, and a month's budget that is reached.",
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Tell what has happened since the last look."""
    settings = get_settings()
    send = sender(settings)
    if send is None:
        return dg.SkipReason("RETAIL_ALERT_WEBHOOK is not set")
    bookmark = Bookmark.read(context.cursor, time.time())
    try:
        told = tell_news(context.instance, bookmark, send, settings)
        words = f"{told} new alerts; {sum(bookmark.held.values())} held back"
    except DeliveryError as error:
        words = f"{error}; it is tried again at the next look"
        context.log.warning(words)
    return dg.SensorResult(skip_reason=words, cursor=bookmark.model_dump_json())


def tell_news(
    instance: dg.DagsterInstance, bookmark: Bookmark, send: Send, settings: Settings
) -> int:
    """Tell of the runs that ended since the bookmark, which moves on with each; how many alerts.

    Raises:
        DeliveryError: one did not arrive; the bookmark says how far it got.
    """
    until = time.monotonic() + SECONDS_A_LOOK
    bookmark.tell_held(send, settings)
    records = ended_runs(instance, bookmark)
    told = 0
    for record in records:
        run_id = record.dagster_run.run_id
        news = list(alerts_of(instance, record, settings))
        for number in range(bookmark.halfway.get(run_id, 0), len(news)):
            bookmark.tell(news[number], send, settings)
            bookmark.halfway = {run_id: number + 1}
            told += 1
        bookmark.halfway = {}
        bookmark.runs.append(run_id)
        bookmark.since = max(bookmark.since, _end(record))
        if time.monotonic() > until:
            return told
    _forget_early(instance, bookmark)
    month = datetime.now(UTC).strftime(MONTH)
    if records or bookmark.costed != month:
        told += _tell_budget(month, bookmark, send, settings)
        bookmark.costed = month
    return told


def ended_runs(instance: dg.DagsterInstance, bookmark: Bookmark) -> Sequence[dg.RunRecord]:
    """The runs that ended since, and were not told of; the first to end first."""
    after = max(bookmark.began, bookmark.since - OVERLAP_SECONDS)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=_ENDED, updated_after=datetime.fromtimestamp(after, UTC)),
        limit=RUNS_A_LOOK + len(bookmark.runs),
        order_by="update_timestamp",
        ascending=True,
    )
    news = [
        one for one in records if one.dagster_run.run_id not in bookmark.runs and _end(one) >= after
    ]
    return sorted(news, key=_end)


def _end(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _forget_early(instance: dg.DagsterInstance, bookmark: Bookmark) -> None:
    """Of runs that no look will see again nothing need be remembered, but for the last one."""
    records = (
        instance.get_run_records(dg.RunsFilter(run_ids=bookmark.runs)) if bookmark.runs else []
    )
    after = bookmark.since - OVERLAP_SECONDS
    late = {
        one.dagster_run.run_id
        for one in records
        if max(_end(one), one.update_timestamp.timestamp()) >= after
    }
    last = bookmark.runs[-1:]
    bookmark.runs = [one for one in bookmark.runs if one in late or one in last]


def alerts_of(
    instance: dg.DagsterInstance, record: dg.RunRecord, settings: Settings
) -> Iterator[Alert]:
    """What an ended run has to tell, in the order in which it happened."""
    run = record.dagster_run
    link = run_link(run.run_id, settings)
    failure: Alert | None = None
    for one in instance.get_records_for_run(run.run_id, of_type=_TOLD).records:
        event = one.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            yield from _of_materialization(event, record, settings, link)
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield from _of_check(event, link)
        else:
            failure = failure or _of_failure(event, run, link)
    if run.status == dg.DagsterRunStatus.FAILURE:
        yield failure or run_failed(
            run.job_name, run.tags.get("dagster/partition"), "", "", "", link, again=False
        )


def _of_materialization(
    event: dg.DagsterEvent, record: dg.RunRecord, settings: Settings, link: str
) -> Iterator[Alert]:
    made = event.step_materialization_data.materialization
    metadata = {name: getattr(one, "value", None) for name, one in made.metadata.items()}
    name = made.asset_key.path[-1]
    begun = datetime.fromtimestamp(record.start_time or 0.0, UTC)
    if name in TRAINED and _was_trained(metadata, begun):
        yield training_finished(made.partition or name, metadata, link)
    if name == CHAMPION:
        yield from _of_champion(metadata, begun, settings, link)


def _was_trained(metadata: dict[str, Any], begun: datetime) -> bool:
    """Whether this run trained it, not found it trained."""
    manifest = metadata.get("manifest")
    finished = manifest.get("finished") if isinstance(manifest, dict) else None
    return finished is not None and datetime.fromisoformat(finished) >= begun


def _of_champion(
    metadata: dict[str, Any], begun: datetime, settings: Settings, link: str
) -> Iterator[Alert]:
    number = metadata.get("event")
    events = ChampionHistory(settings).events()
    found = next((one for one in events if one.number == number), None)
    if found is None or found.at < begun:
        return
    measured = {f"{one.metric} on {one.subset}": one.words for one in found.numbers}
    registered = str(metadata.get("registered_model") or "")
    yield champion_changed(found.kind, found.job, found.number, measured, registered, link)


def _of_check(event: dg.DagsterEvent, link: str) -> Iterator[Alert]:
    check = event.asset_check_evaluation_data
    if check.passed:
        return
    yield check_failed(
        check.asset_key.to_user_string(),
        check.partition,
        check.check_name,
        check.severity.value,
        check.description or "",
        link,
    )


def _of_failure(event: dg.DagsterEvent, run: dg.DagsterRun, link: str) -> Alert:
    step, error, message = "", "", ""
    if event.event_type == dg.DagsterEventType.STEP_FAILURE:
        step = event.step_key or ""
        error, message = _first_error(event.step_failure_data)
    return run_failed(
        run.job_name,
        run.tags.get("dagster/partition"),
        step,
        error,
        message,
        link,
        again=run.tags.get("dagster/will_retry") == "true",
    )


def _first_error(data: Any) -> tuple[str, str]:
    """The kind and the words of what failed: not Dagster's around it."""
    error = data.error
    if data.user_failure_data is not None and data.user_failure_data.description:
        return (error.cls_name or "" if error else ""), data.user_failure_data.description
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    if error is None:
        return "", ""
    name = error.cls_name or ""
    _, found, words = error.message.partition(f"{name}: ")
    return name, words if found else error.message


def _tell_budget(month: str, bookmark: Bookmark, send: Send, settings: Settings) -> int:
    if settings.budget is None or bookmark.budget == month:
        return 0
    spent = total(month, of_month(all_work(settings.storage), month), settings)
    if (spent.cost or 0.0) < settings.budget:
        return 0
    bookmark.tell(budget_reached(month, spent, settings), send, settings)
    bookmark.budget = month
    return 1
