"""The queue of Dagster runs: a run for a hyperparameter job waits by that job's priority.

Priority and retries stand in the job's study. A run that the UI, a backfill or automation starts
carries no tags of its own, so they are set where every run passes: as it enters the queue.
"""

from collections.abc import Mapping

import dagster as dg

from retail_assistant.settings import SHIPPED_STUDIES, get_settings
from retail_assistant.training.jobs import StudyError
from retail_assistant.training.resources import ResourceRequest
from retail_assistant.training.studies import load_registry

PARTITION = "dagster/partition"
PRIORITY = "dagster/priority"
MAX_RETRIES = "dagster/max_retries"


def tags_of(request: ResourceRequest) -> dict[str, str]:
    """Run tags for what a job asks of the queue.

    The retries are of runs whose own process was ended by the machine (`run_retries` of the
    instance); a training that made room is retried inside its run.
    """
    tags = {MAX_RETRIES: str(request.retries)} if request.retries else {}
    return tags | ({PRIORITY: str(request.priority)} if request.priority else {})


def missing_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What a run with these tags lacks, if its partition is a hyperparameter job."""
    partition = tags.get(PARTITION)
    if partition is None:
        return {}
    try:
        job = load_registry(SHIPPED_STUDIES, get_settings().studies).jobs.get(partition)
    except StudyError:
        # The code location says what is wrong; the queue takes its run all the same.
        return {}
    wanted = tags_of(job.resources) if job else {}
    return {name: value for name, value in wanted.items() if name not in tags}


class JobQueue(dg.QueuedRunCoordinator):
    """Dagster's own queue; a run that is a hyperparameter job's is tagged as its study says."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Take a run in; tags that it has already are kept."""
        run = context.dagster_run
        missing = missing_tags(run.tags)
        if missing:
            self._instance.add_run_tags(run.run_id, missing)
        return super().submit_run(context)
