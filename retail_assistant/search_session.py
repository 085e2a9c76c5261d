"""A search driven from a terminal: its trials one after the other, on the real Dagster instance."""

import time
import warnings
from datetime import UTC, datetime

import dagster as dg
from rich.console import Console

from retail_assistant.definitions import defs
from retail_assistant.defs.partitions import trial_partitions
from retail_assistant.quickstart import failure_reason
from retail_assistant.settings import get_settings
from retail_assistant.training.searching.progress import RunningSearch, Trial, current_search


def run_trials(name: str, console: Console) -> str | None:
    """Begin the search `name`, or go on with it, to its end; why it could not, else None.

    A trial that fails is noted, and the next one begins. A trial that was broken off (Ctrl-C) goes
    on from its last checkpoint.
    """
    # Of no use to who runs this: the versions are locked.
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.simplefilter("ignore", category)
    session = _Session(defs(), name, console)
    with dg.DagsterInstance.get() as session.instance:
        failure = session.run("begin_search", name)
        running = current_search(get_settings().storage, name)
        if failure or running is None:
            return failure or f"search {name} did not begin"
        with running.driving() as ours:
            if not ours:
                return f"search {name} is driven by another process already"
            session.drive(running)
        return session.run("report_search", name)


class _Session:
    instance: dg.DagsterInstance

    def __init__(self, code_location: dg.Definitions, name: str, console: Console) -> None:
        self.code_location, self.name, self.console = code_location, name, console

    def drive(self, running: RunningSearch) -> None:
        """Train what waits and what is proposed, until nothing is."""
        while True:
            running.propose(datetime.now(UTC))
            waiting = [one.trial for one in running.outcomes() if one.state == "waiting"]
            if not waiting:
                return
            for trial in waiting:
                self._train(running, trial)

    def _train(self, running: RunningSearch, trial: Trial) -> None:
        self.console.print(f"[bold]{trial.key}[/bold] {trial.params}", highlight=False)
        self.instance.add_dynamic_partitions(str(trial_partitions.name), [trial.key])
        started = time.monotonic()
        failure = self.run("train_trial", trial.key)
        if failure:
            running.fail(trial, failure)
        outcome = running.outcomes()[trial.number]
        told = f"eval_loss {outcome.loss:.4f}" if outcome.loss is not None else outcome.reason
        self.console.print(
            f"  {told}, {time.monotonic() - started:.0f} s", highlight=False, markup=False
        )

    def run(self, job: str, partition: str) -> str | None:
        """Run a job of the graph; why it failed, else None."""
        result = self.code_location.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            raise_on_error=False,
            run_config={"loggers": {"console": {}}},
        )
        return None if result.success else failure_reason(result)
