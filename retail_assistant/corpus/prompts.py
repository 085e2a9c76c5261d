"""Dialogues become prompts and completions: with catalog records, without, counted in tokens.

`python -m retail_assistant.corpus.prompts --spec spec.json` leaves `prompt_corpus.parquet`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.rendering import (
    PROMPT_VERSION,
    Message,
    render_completion,
    render_prompt,
    supported_messages,
)
from retail_assistant.corpus.retrieval import Retrieved, retrieve
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef

LEARNED_SUBSETS = ("train", "validation")
MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def prompt_column(grounding: str) -> str:
    """The column that holds the prompts of a way of grounding."""
    return {"none": "prompt", "retrieved": "grounded_prompt"}[grounding]


def context_records(
    dialogue: Mapping[str, Any], retrieved: Retrieved, index: CatalogIndex
) -> Retrieved:
    """The records in a dialogue's grounded prompt.

    Evaluation gets what retrieval found, as a shopper would. A row that is learned from always
    has the records that its answer rests on (an answer from nowhere would teach inventing), in an
    order drawn by its id, so that reading the names is learned and not the position.
    """
    if dialogue["subset"] not in LEARNED_SUBSETS:
        return retrieved
    evidence = dialogue["evidence"]["product_ids"] or []
    wanted = [record for product_id in evidence if (record := index.product(product_id))]
    ids = {record["product_id"] for record in wanted}
    others = [record for record in retrieved.records if record["product_id"] not in ids]
    records = [*wanted, *others][: max(len(retrieved.records), len(wanted))]
    records.sort(key=lambda record: _draw(dialogue["dialogue_id"], record["product_id"]))
    return Retrieved(records, named=retrieved.named or bool(wanted))


def _draw(*parts: str) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def render_corpus(
    dialogues: pl.DataFrame,
    contexts: Sequence[Retrieved],
    tokenizer: Any,
) -> pl.DataFrame:
    """The prompt corpus: dialogues plus prompts, completions and their lengths in tokens."""
    closed = [supported_messages(render_prompt(q), tokenizer) for q in dialogues["question"]]
    grounded = [
        supported_messages(render_prompt(question, found.records, named=found.named), tokenizer)
        for question, found in zip(dialogues["question"], contexts, strict=True)
    ]
    completions = [render_completion(answer) for answer in dialogues["answer"]]
    lengths = [_count(p, tokenizer) for p in closed]
    ends = [_count([*p, *c], tokenizer) for p, c in zip(closed, completions, strict=True)]
    return dialogues.with_columns(
        pl.Series(
            "context_ids",
            [[r["product_id"] for r in c.records if c.named] for c in contexts],
            pl.List(pl.Utf8),
        ),
        pl.Series("prompt", closed, MESSAGES),
        pl.Series("grounded_prompt", grounded, MESSAGES),
        pl.Series("completion", completions, MESSAGES),
        pl.Series("prompt_tokens", lengths, pl.UInt32),
        pl.Series("grounded_prompt_tokens", [_count(p, tokenizer) for p in grounded], pl.UInt32),
        pl.Series(
            "completion_tokens",
            [end - start for start, end in zip(lengths, ends, strict=True)],
            pl.UInt32,
        ),
        pl.lit(PROMPT_VERSION).alias("prompt_version"),
    )


def _count(messages: Sequence[Message], tokenizer: Any) -> int:
    asked = messages[-1]["role"] == "user"
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=asked
    )
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def retrieval_recall(corpus: pl.DataFrame) -> float:
    """Share of answerable evaluation questions whose product is among the records found."""
    asked = corpus.filter(pl.col("subset").is_in(["recall", "unseen"]))
    found = pl.col("context_ids").list.contains(pl.col("product_id"))
    return float(asked.select(found.mean()).item() or 0.0)


def build_contexts(dialogues: pl.DataFrame, index: CatalogIndex) -> list[Retrieved]:
    """The context records of every dialogue."""
    retrieved = retrieve(dialogues["question"].to_list(), index)
    return [
        context_records(dialogue, found, index)
        for dialogue, found in zip(dialogues.iter_rows(named=True), retrieved, strict=True)
    ]


def _run(work: Workload) -> None:
    from transformers import AutoTokenizer

    paths = work.spec.paths
    table = TableRef(path=paths["dialogues"], sha256=work.spec.inputs["dialogues"], rows=0)
    dialogues = table.read()
    work.say(f"retrieving records for {dialogues.height} questions")
    contexts = build_contexts(dialogues, CatalogIndex.open(Path(paths["index"])))
    tokenizer = AutoTokenizer.from_pretrained(paths["base_model"], trust_remote_code=False)
    corpus = render_corpus(dialogues, contexts, tokenizer)
    path = work.folder / "prompt_corpus.parquet"
    corpus.write_parquet(path)
    work.output("prompt_corpus", path)
    work.metrics = {"rows": corpus.height, "retrieval_recall": retrieval_recall(corpus)}


def main() -> None:
    """Entry point of the workload."""
    with workload("Render dialogues as prompts.") as work:
        _run(work)


if __name__ == "__main__":
    main()
