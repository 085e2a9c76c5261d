"""Answer the evaluation questions with one or more variants of a model.

`python -m retail_assistant.evaluation.predict --spec spec.json` leaves `predictions.parquet`.
Finished shards are on disk at once: a killed run goes on where it was.
"""

import time
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.corpus.rendering import Message
from retail_assistant.evaluation.baselines import constant_answer, retrieval_only, with_examples
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.evaluation.semantic import EMBEDDING_MODEL, with_sem_scores
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef, write_atomically

EVALUATION_SUBSETS = ("recall", "unseen", "unanswerable")
SHARD_ROWS = 64
MAX_LENGTH = 2048


class Variant(BaseModel):
    """A model with a way to prompt it; `shots`: answered training questions in the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    grounding: str
    shots: int = 0


class PredictConfig(BaseModel):
    """What to answer with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: list[Variant]
    max_tokens: int
    retrieval_only: bool = False
    constant: bool = False
    sem_score: bool = True


def evaluation_questions(corpus: pl.DataFrame) -> pl.DataFrame:
    """The rows of the evaluation sets, in a fixed order."""
    return corpus.filter(pl.col("subset").is_in(EVALUATION_SUBSETS)).sort("dialogue_id")


def answer_variant(
    work: Workload, engine: Engine, questions: pl.DataFrame, variant: Variant, max_tokens: int
) -> pl.DataFrame:
    """Answers of one variant, shard by shard; shards that are on disk are not asked again."""
    folder = work.folder / "shards" / variant.name.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    frames: list[pl.DataFrame] = []
    for start in range(0, questions.height, SHARD_ROWS):
        path = folder / f"{start:06d}.parquet"
        if not path.is_file():
            shard = questions.slice(start, SHARD_ROWS)
            _store(_answer_shard(engine, shard, variant, max_tokens), path)
        frames.append(pl.read_parquet(path))
        done = min(start + SHARD_ROWS, questions.height)
        work.progress(done, questions.height, f"questions answered by {variant.name}")
    return pl.concat(frames)


def _answer_shard(
    engine: Engine, shard: pl.DataFrame, variant: Variant, max_tokens: int
) -> pl.DataFrame:
    conversations: list[list[Message]] = shard[prompt_column(variant.grounding)].to_list()
    answers = engine.answer(conversations, max_tokens)
    return pl.DataFrame(
        {
            "dialogue_id": shard["dialogue_id"],
            "variant": [variant.name] * shard.height,
            "answer": [answer.text for answer in answers],
            "finish_reason": [answer.finish_reason for answer in answers],
            "prompt_tokens": [answer.prompt_tokens for answer in answers],
            "completion_tokens": [answer.completion_tokens for answer in answers],
        },
        schema_overrides={"prompt_tokens": pl.UInt32, "completion_tokens": pl.UInt32},
    )


def _store(frame: pl.DataFrame, path: Path) -> None:
    import io

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_atomically(path, buffer.getvalue())


def _run(work: Workload, config: PredictConfig) -> None:
    paths, versions = work.spec.paths, work.spec.inputs
    corpus = TableRef(path=paths["prompt_corpus"], sha256=versions["prompt_corpus"], rows=0)
    rows = corpus.read()
    questions = evaluation_questions(rows)
    frames: list[pl.DataFrame] = []
    started = time.monotonic()
    with open_engine(
        paths["base_model"],
        paths.get("adapter"),
        style=prompt_style(questions),
        max_length=MAX_LENGTH,
        say=work.say,
    ) as engine:
        work.metrics["engine"] = engine.name
        work.metrics["engine_start_seconds"] = round(time.monotonic() - started, 1)
        for variant in config.variants:
            began = time.monotonic()
            shown = questions
            if variant.shots:
                longest = MAX_LENGTH - config.max_tokens
                shown = with_examples(questions, rows, variant.grounding, variant.shots, longest)
            frames.append(answer_variant(work, engine, shown, variant, config.max_tokens))
            work.metrics[f"seconds {variant.name}"] = round(time.monotonic() - began, 1)
    if config.retrieval_only:
        catalog = TableRef(path=paths["assortment"], sha256=versions["assortment"], rows=0)
        frames.append(retrieval_only(questions, catalog.read()))
    if config.constant:
        frames.append(constant_answer(questions, rows))
    answers = pl.concat(frames).sort("variant", "dialogue_id")
    if config.sem_score:
        began = time.monotonic()
        answers = with_sem_scores(answers, questions)
        work.metrics["seconds sem_score"] = round(time.monotonic() - began, 1)
        work.metrics["embedding_model"] = EMBEDDING_MODEL
    path = work.folder / "predictions.parquet"
    answers.write_parquet(path)
    work.output("predictions", path)
    work.metrics["questions"] = questions.height


def main() -> None:
    """Entry point of the workload."""
    with workload("Answer the evaluation questions.") as work:
        _run(work, PredictConfig.model_validate(work.spec.config))


if __name__ == "__main__":
    main()
