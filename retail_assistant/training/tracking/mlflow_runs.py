"""An MLflow run as a journal's records make it: created once, nested in its study's run.

Every call may fail (the server is away) and be made again: what was sent is not sent twice, and a
run that the server made without our hearing of it is found by the tag of its journal.
"""

import json
from pathlib import Path
from typing import Any

from retail_assistant.training.tracking.journal import Journal, SentState
from retail_assistant.training.tracking.mlflow_places import (
    GONE,
    alone,
    experiment_id,
    is_there,
    logged_model,
    mlflow_client,
    study_run,
)
from retail_assistant.training.tracking.target import DatasetInput, ModelInput, TrackingTarget

VALUE_LENGTH = 5000
DIGEST_LENGTH = 36
ENTITIES_A_CALL = 100
NUMBERS_A_CALL = 900
JOURNAL_TAG = "retail_assistant.journal"
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND")


class MlflowRun:
    """The MLflow run of one journal, at a tracking server or in a SQLite file."""

    def __init__(self, journal: Journal, target: TrackingTarget) -> None:
        self._journal, self._target = journal, target
        self._client: Any = None
        self.state = journal.state()

    def send_some(self) -> bool:
        """Send the next records; False: there were none.

        Raises:
            Exception: whatever MLflow or the network says; nothing is lost, call again later.
        """
        records, offset = self._next_records()
        if not records:
            return False
        self._open()
        try:
            refused = self._send(records)
        except _RunIsGoneError:
            # Somebody emptied the server: the journal still has everything.
            self._keep(SentState(uri=self._target.uri))
            self._client = None
            return True
        self._keep(self.state, offset=offset, refused=self.state.refused + refused)
        return True

    def _next_records(self) -> tuple[list[dict[str, Any]], int]:
        """The next record, or as many of the next metrics as one call takes."""
        taken: list[dict[str, Any]] = []
        numbers, offset = 0, self.state.offset
        for record, end in self._journal.records(offset):
            numbers += len(record.get("values", ()))
            if taken and (record["kind"] != "metrics" or numbers > NUMBERS_A_CALL):
                break
            taken.append(record)
            offset = end
            if record["kind"] != "metrics":
                break
        return taken, offset

    def _send(self, records: list[dict[str, Any]]) -> int:
        """Send records of one kind; returns how many MLflow would not take, ever."""
        from mlflow.exceptions import MlflowException

        try:
            getattr(self, f"_send_{records[0]['kind']}")(records)
        except MlflowException as error:
            if self._says(error, (GONE,)):
                raise _RunIsGoneError from error
            if not self._says(error, REFUSALS):
                raise
            return 1 if len(records) == 1 else sum(self._send([record]) for record in records)
        return 0

    def _says(self, error: Any, codes: tuple[str, ...]) -> bool:
        """Whether MLflow itself says so, not whatever else answers at its address."""
        from mlflow.exceptions import RestException

        ours = isinstance(error, RestException) or not self._target.uri.startswith("http")
        return ours and error.error_code in codes

    def _keep(self, state: SentState, **changes: Any) -> None:
        self.state = state.model_copy(update=changes)
        self._journal.save_state(self.state)

    # Opening: the experiment, the study's run, this run.

    def _open(self) -> None:
        if self._client is not None:
            return
        client = mlflow_client(self._target.uri)
        with alone(self._target.root):
            experiment = experiment_id(client, self._target)
            parent = study_run(client, experiment, self._target)
        known = self.state.run_id
        if known is None or not is_there(client, known):
            found = self._made_unheard(client, experiment)
            run = found or self._create(client, experiment, parent)
            # In another place (a fresh server, another address) the whole story is told again.
            self._keep(SentState(uri=self._target.uri, run_id=run))
        self._keep(self.state, experiment_id=experiment, parent_run_id=parent)
        self._client = client

    def _made_unheard(self, client: Any, experiment: str) -> str | None:
        found = client.search_runs(
            [experiment], f"tags.`{JOURNAL_TAG}` = '{self._journal_name}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _create(self, client: Any, experiment: str, parent: str | None) -> str:
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        first = next(self._journal.records(), None)
        run = client.create_run(
            experiment,
            start_time=first[0]["time"] if first else None,
            tags={
                **self._target.tags,
                JOURNAL_TAG: self._journal_name,
                **({MLFLOW_PARENT_RUN_ID: parent} if parent else {}),
            },
            run_name=self._target.run_name,
        )
        return str(run.info.run_id)

    @property
    def _journal_name(self) -> str:
        path = self._journal.path
        return f"{path.parent.parent.name}/{path.stem}"

    # One method for each kind of record.

    def _send_start(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Param, RunTag

        (record,) = records
        client, run_id = self._client, self.state.run_id
        run = client.get_run(run_id)
        if run.info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
        given = {key: str(value)[:VALUE_LENGTH] for key, value in record["parameters"].items()}
        # MLflow's parameters cannot change; what a resumed training was given instead is a tag.
        old = run.data.params
        params = [Param(key, value) for key, value in given.items() if key not in old]
        again = {
            f"resumed.{key}": given[key] for key in given if old.get(key, given[key]) != given[key]
        }
        tags = [RunTag(key, value) for key, value in {**record["tags"], **again}.items()]
        for start in range(0, max(len(params), len(tags)), ENTITIES_A_CALL):
            part = slice(start, start + ENTITIES_A_CALL)
            client.log_batch(run_id, params=params[part], tags=tags[part])

    def _send_metrics(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, record["time"], record["step"])
            for record in records
            for key, value in record["values"].items()
        ]
        self._client.log_batch(self.state.run_id, metrics=metrics)

    def _send_dataset(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as MlflowDatasetInput
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        given = DatasetInput.model_validate(records[0]["dataset"])
        dataset = Dataset(
            name=given.name,
            digest=given.digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": given.source}),
            profile=json.dumps({"num_rows": given.rows}),
        )
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, given.context)]
        self._client.log_inputs(self.state.run_id, [MlflowDatasetInput(dataset, tags)])

    def _send_model(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import LoggedModelInput

        given = ModelInput.model_validate(records[0]["model"])
        model_id = logged_model(self._client, str(self.state.experiment_id), given)
        self._client.log_inputs(self.state.run_id, models=[LoggedModelInput(model_id)])

    def _send_artifact(self, records: list[dict[str, Any]]) -> None:
        relative = Path(records[0]["path"])
        path = self._journal.path.parent.parent / relative
        if path.is_file():
            folder = str(relative.parent) if relative.parent != Path() else None
            self._client.log_artifact(self.state.run_id, str(path), folder)

    def _send_close(self, records: list[dict[str, Any]]) -> None:
        (record,) = records
        self._client.set_terminated(self.state.run_id, record["status"], record["time"])


class _RunIsGoneError(Exception):
    """The server does not know the run any more."""
