"""Label texts with a model: the base model alone, or with an adapter.

`python -m retail_assistant.evaluation.classification.predict --spec spec.json` leaves
`classifications.parquet`: how likely each label is after each text of the validation and the test
side (null where the text is too long). Finished shards are on disk at once: a killed run goes on
where it was.
"""

import io
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.evaluation.classification.labels import (
    Labels,
    label_scores,
    label_tokens,
    labels_of,
)
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef
from retail_assistant.storage.contents import is_hashed_intact, write_hashed

HELD_OUT = ("validation", "test")
SHARD_ROWS = 128
MAX_LENGTH = 2048


class ClassifyConfig(BaseModel):
    """Whose labels these are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str


def held_out_texts(corpus: pl.DataFrame) -> pl.DataFrame:
    """The texts that nothing was learned from, in a fixed order."""
    return corpus.filter(pl.col("subset").is_in(HELD_OUT)).sort("text_id")


def _classified(
    work: Workload, engine: Engine, texts: pl.DataFrame, labels: Labels, encoder: Encoder
) -> pl.DataFrame:
    folder = work.folder / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    frames: list[pl.DataFrame] = []
    for start in range(0, texts.height, SHARD_ROWS):
        path = folder / f"{start:08d}.parquet"
        if not is_hashed_intact(path):
            shard = texts.slice(start, SHARD_ROWS)
            scores = label_scores(engine, label_tokens(shard["text"].to_list(), labels, encoder))
            _store(shard.select("text_id").hstack(scores), path)
        frames.append(pl.read_parquet(path))
        work.progress(min(start + SHARD_ROWS, texts.height), texts.height, "texts labelled")
    return pl.concat(frames)


def _store(frame: pl.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_hashed(path, buffer.getvalue())


def classify(work: Workload) -> None:
    """Label the held-out texts of the spec's corpus into `classifications.parquet`.

    Raises:
        ValueError: the corpus holds no text that fits, or not both labels.
    """
    from transformers import AutoTokenizer

    config = ClassifyConfig.model_validate(work.spec.config)
    paths, versions = work.spec.paths, work.spec.inputs
    corpus = TableRef(path=paths["prompt_corpus"], sha256=versions["prompt_corpus"], rows=0).read()
    held = held_out_texts(corpus)
    texts = held.filter(pl.col("prompt_tokens") + pl.col("completion_tokens") < MAX_LENGTH)
    if texts.is_empty():
        raise ValueError(f"no text to label is shorter than {MAX_LENGTH} tokens")
    style = prompt_style(corpus)
    tokenizer = AutoTokenizer.from_pretrained(paths["base_model"], trust_remote_code=False)
    with open_engine(
        paths["base_model"],
        paths.get("adapter"),
        style=style,
        max_length=MAX_LENGTH,
        say=work.say,
    ) as engine:
        work.metrics["engine"] = engine.name
        found = _classified(work, engine, texts, labels_of(corpus), Encoder(tokenizer, style))
    path = work.folder / "classifications.parquet"
    named = held.select("text_id", pl.lit(config.variant).alias("variant"))
    named.join(found, on="text_id", how="left").sort("text_id").write_parquet(path)
    work.output("classifications", path)
    work.metrics |= {"texts": texts.height, "texts_too_long": held.height - texts.height}


def main() -> None:
    """Entry point of the workload."""
    with workload("Label texts.") as work:
        classify(work)


if __name__ == "__main__":
    main()
