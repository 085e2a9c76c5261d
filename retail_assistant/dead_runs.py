"""Dagster runs of this machine whose process is gone.

A killed process, or a machine that lost power, leaves its run as started: it would keep its place
in the queue and in the pool of trainings for good, and the next training would wait for it. In a
cluster Kubernetes tells Dagster of lost pods; on one machine nobody does.
"""

from typing import TYPE_CHECKING

import psutil

from retail_assistant.launch.processes import is_alive

if TYPE_CHECKING:
    from dagster import DagsterInstance

SECONDS_OF_DOUBT = 60.0
"""A clock that is set moves what a process says of its start."""


def end_dead_runs(instance: "DagsterInstance") -> list[str]:
    """Tell an instance that only this machine uses of runs whose process is gone; their ids.

    A run that nobody wanted ended is failed as one that the machine ended: it is retried where its
    job allows that.
    """
    import dagster as dg

    begun = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    ended = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=begun)):
        found = _process_of(instance, run.run_id)
        if found is None or _works(*found):
            continue
        process, _ = found
        told = f"the process of this run ({process}) is gone: killed, or the machine went down"
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, told)
        else:
            instance.report_run_failed(run, f"{told}; run it again, and it goes on")
        # The daemon would do so a minute later, where there is one.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended


def _process_of(instance: "DagsterInstance", run_id: str) -> tuple[int, float] | None:
    """The process that has the run, as it told last, and when; None: it has told nothing yet."""
    import dagster as dg

    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed(events):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        told = getattr(data, "metadata", {}).get("pid")
        if told is not None:
            return int(told.value), entry.timestamp
    return None


def _works(pid: int, told_at: float) -> bool:
    """Whether a process lives and is the one that told so then: numbers are given again."""
    try:
        process = psutil.Process(pid)
        return is_alive(process) and process.create_time() <= told_at + SECONDS_OF_DOUBT
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
