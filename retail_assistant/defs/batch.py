"""A file of questions answered by the champion."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from retail_assistant.defs.adapters import TRAINING_POOL
from retail_assistant.defs.io_managers import column_schema
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Resources
from retail_assistant.serving.batch import ANSWERING, read_requests
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.settings import get_settings
from retail_assistant.storage import file_sha256
from retail_assistant.training.planning.devices import Devices

GROUP = "serving"
OWNERS = ["team:machine-learning"]
GIB = 8.0

ANSWERS: Mapping[str, Any] = {
    "row": pl.Int64,
    "id": pl.String,
    "answer": pl.String,
    "error": pl.String,
    "intent": pl.String,
    "declined": pl.String,
    "written_by": pl.String,
    "citations": pl.List(pl.String),
    "answer_id": pl.String,
}
"""A row a line of the input; `error` is the reason where there is no answer."""


class QuestionFile(dg.Config):
    """What is to be answered."""

    input: str = Field(
        description="A .jsonl file, a line a question ({'question': …} or {'messages': […]}, with"
        " an optional 'id'); or .csv, .tsv, .parquet with the column question."
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    pool=TRAINING_POOL,
    code_version="1",
)
def answered_questions(
    context: dg.AssetExecutionContext,
    config: QuestionFile,
    launcher: Launcher,
    champion: ArtefactRef,
    catalog_index: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The champion's answers to a file of questions, in its order: the job `answer_questions`.

    A run that was killed is gone on with; a line that cannot be answered says why.
    """
    spec = answered_questions_spec(Path(config.input), champion, catalog_index)
    ref = launcher.launch(context, spec)
    frame = answers_frame(ref.path("answers"))
    return dg.MaterializeResult(
        value=frame,
        data_version=dg.DataVersion(ref.fingerprint),
        # None of the questions: what Dagster is told stays for good.
        metadata={
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame),
            "input": dg.MetadataValue.path(config.input),
            "answers": dg.MetadataValue.path(str(ref.path("answers"))),
            **ref.manifest().metrics,
        },
    )


def answered_questions_spec(
    questions: Path, champion: ArtefactRef, index: ArtefactRef
) -> LaunchSpec:
    """What answers a file: the same file, champion, index and settings have the same answers."""
    read_requests(questions)  # refused here, before a model is loaded
    settings, serving = get_settings(), get_serving_settings()
    devices = Devices.parsed(settings.devices)
    asked = {"max_answer_tokens", "max_context_tokens", "variant", "model_url", "model_name"}
    return LaunchSpec(
        name="answered_questions",
        module="retail_assistant.serving.batch",
        config=serving.model_dump(include=asked),
        inputs={
            "questions": file_sha256(questions),
            "champion": champion.fingerprint,
            "catalog_index": index.fingerprint,
        },
        paths={"questions": questions.resolve()},
        code_version="1",
        root=settings.storage,
        resources=Resources(gpus=min(devices.count, 1) * (devices.kind == "cuda"), memory_gib=GIB),
        execution={"answering": ANSWERING},
    )


def answers_frame(path: Path) -> pl.DataFrame:
    """The lines of an answers file (ANSWERS)."""
    with path.open(encoding="utf-8") as stream:
        rows = [_row(json.loads(line)) for line in stream]
    return pl.DataFrame(rows, schema=ANSWERS, orient="row")


def _row(line: dict[str, Any]) -> dict[str, Any]:
    result = line.get("result", {})
    told = {name: result.get(name) for name in ANSWERS if name in result}
    return {
        **dict.fromkeys(ANSWERS),
        **told,
        "row": line["row"],
        "id": None if line["id"] is None else str(line["id"]),
        "answer": line.get("answer"),
        "error": line["error"]["reason"] if "error" in line else None,
    }


answer_questions = dg.define_asset_job(
    "answer_questions",
    dg.AssetSelection.assets("answered_questions"),
    config={"ops": {"answered_questions": {"config": {"input": "questions.jsonl"}}}},
    description="Answer a file of questions with the champion: *Open launchpad* in the menu beside"
    " *Materialize*, and say which file.",
)
