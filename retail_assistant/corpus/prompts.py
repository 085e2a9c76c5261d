"""A task's texts become rows with their lengths in tokens: what adapters learn and are asked.

`python -m retail_assistant.corpus.prompts --spec spec.json` leaves `prompt_corpus.parquet`. The
task `assistant` renders dialogues with catalog records and without; the other tasks are in
`retail_assistant.corpus.tasks`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.corpus.knowledge import knowledge_as_of
from retail_assistant.corpus.lengths import token_histogram
from retail_assistant.corpus.rendering import (
    PROMPT_VERSION,
    render_completion,
    render_prompt,
)
from retail_assistant.corpus.retrieval import Retrieved, retrieve
from retail_assistant.corpus.sentiment import sentiment_rows
from retail_assistant.corpus.tasks import (
    MESSAGES,
    RenderingPolicy,
    Task,
    domain_texts,
    product_descriptions,
)
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef

LEARNED_SUBSETS = ("train", "validation")
INPUTS_OF_TASK: dict[Task, tuple[str, ...]] = {
    "assistant": ("dialogues", "index", "base_model"),
    "product_description": ("assortment", "splits", "base_model"),
    "domain_text": ("assortment", "splits", "base_model", "knowledge"),
    "sentiment": ("texts", "base_model"),
}
"""What a task is made from; store knowledge may be missing."""


class PromptConfig(BaseModel):
    """What to render, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task = "assistant"
    rendering: RenderingPolicy = RenderingPolicy()
    seed: int | None = None
    """Of a split that is made here; other tasks have one already."""


def prompt_spec(
    task: Task,
    policy: RenderingPolicy,
    inputs: Mapping[str, tuple[str, Path]],
    root: Path,
    *,
    seed: int = 0,
) -> LaunchSpec:
    """The launch that renders a task. `inputs`: name -> data version and path, of all tasks.

    `seed` splits labelled texts; what is made of products is split already.

    Raises KeyError where an input of the task is missing.
    """
    needed = {
        name: inputs[name] for name in INPUTS_OF_TASK[task] if name in inputs or name != "knowledge"
    }
    return LaunchSpec(
        name="prompt_corpus",
        module="retail_assistant.corpus.prompts",
        config=_config(task, policy, seed).model_dump(mode="json", exclude_none=True),
        inputs={name: version for name, (version, _) in needed.items()},
        paths={name: path for name, (_, path) in needed.items()},
        code_version=f"2.{PROMPT_VERSION}",
        root=root,
    )


def _config(task: Task, policy: RenderingPolicy, seed: int) -> PromptConfig:
    if task != "sentiment":
        return PromptConfig(task=task, rendering=policy)
    # Descriptions and chat styles are nothing to it: another policy makes no other rows.
    return PromptConfig(task=task, seed=seed)


def prompt_style(corpus: pl.DataFrame) -> PromptStyle:
    """How the rows of a corpus were rendered, and so how whoever learns from them is asked.

    Raises ValueError where they differ.
    """
    styles: list[PromptStyle] = corpus["prompt_style"].unique().to_list()
    if len(styles) > 1:
        raise ValueError(f"the corpus is rendered in several styles: {', '.join(sorted(styles))}")
    return styles[0] if styles else "chat"


def context_records(
    dialogue: Mapping[str, Any], retrieved: Retrieved, catalog: Mapping[str, dict[str, Any]]
) -> Retrieved:
    """The records in a dialogue's grounded prompt; `catalog` has those of its evidence, by id.

    Evaluation gets what retrieval found, as a shopper would. A row that is learned from always
    has the records that its answer rests on (an answer from nowhere would teach inventing), in an
    order drawn by its id, so that reading the names is learned and not the position.
    """
    if dialogue["subset"] not in LEARNED_SUBSETS:
        return retrieved
    evidence = dialogue["evidence"]["product_ids"] or []
    wanted = [catalog[product_id] for product_id in evidence if product_id in catalog]
    ids = {record["product_id"] for record in wanted}
    others = [record for record in retrieved.records if record["product_id"] not in ids]
    records = [*wanted, *others][: max(len(retrieved.records), len(wanted))]
    records.sort(key=lambda record: _draw(dialogue["dialogue_id"], record["product_id"]))
    return Retrieved(records, named=retrieved.named or bool(wanted))


def _draw(*parts: str) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def render_corpus(
    dialogues: pl.DataFrame, contexts: Sequence[Retrieved], encoder: Encoder
) -> pl.DataFrame:
    """The prompt corpus: dialogues plus prompts, completions and their lengths in tokens.

    Raises ValueError as `Encoder.examples` does.
    """
    closed = [render_prompt(question) for question in dialogues["question"]]
    grounded = [
        render_prompt(question, found.records, named=found.named)
        for question, found in zip(dialogues["question"], contexts, strict=True)
    ]
    completions = [render_completion(answer) for answer in dialogues["answer"]]
    examples = encoder.examples(zip(closed, completions, strict=True))
    lengths = [(one.prompt_length, len(one.ids) - one.prompt_length) for one in examples]
    return dialogues.with_columns(
        pl.Series(
            "context_ids",
            [[r["product_id"] for r in c.records if c.named] for c in contexts],
            pl.List(pl.Utf8),
        ),
        pl.Series("prompt", closed, MESSAGES),
        pl.Series("grounded_prompt", grounded, MESSAGES),
        pl.Series("completion", completions, MESSAGES),
        pl.Series("prompt_tokens", [prompt for prompt, _ in lengths], pl.UInt32),
        pl.Series("grounded_prompt_tokens", list(map(len, encoder.prompts(grounded))), pl.UInt32),
        pl.Series("completion_tokens", [completion for _, completion in lengths], pl.UInt32),
        pl.lit(PROMPT_VERSION).alias("prompt_version"),
        pl.lit(encoder.style).alias("prompt_style"),
    )


def retrieval_recall(corpus: pl.DataFrame) -> float:
    """Share of answerable evaluation questions whose product is among the records found."""
    asked = corpus.filter(pl.col("subset").is_in(["recall", "unseen"]))
    found = pl.col("context_ids").list.contains(pl.col("product_id"))
    return float(asked.select(found.mean()).item() or 0.0)


def build_contexts(dialogues: pl.DataFrame, index: CatalogIndex) -> list[Retrieved]:
    """The context records of every dialogue."""
    retrieved = retrieve(dialogues["question"].to_list(), index)
    rested_on = dialogues["evidence"].struct.field("product_ids").explode().drop_nulls().unique()
    catalog = index.products(rested_on)
    return [
        context_records(dialogue, found, catalog)
        for dialogue, found in zip(dialogues.iter_rows(named=True), retrieved, strict=True)
    ]


def render(work: Workload) -> None:
    """Render the task that the spec names into `prompt_corpus.parquet`.

    Descriptions that cannot be used are in `left_out.parquet`. Raises ValueError where the base
    model's tokenizer cannot render the style, or store knowledge is not as it was.
    """
    from transformers import AutoTokenizer

    config = PromptConfig.model_validate(work.spec.config)
    tokenizer = AutoTokenizer.from_pretrained(
        work.spec.paths["base_model"], trust_remote_code=False
    )
    style = "plain" if config.task == "sentiment" else config.rendering.style
    encoder = Encoder(tokenizer, style)
    if config.task == "assistant":
        corpus = _dialogue_prompts(work, encoder)
    elif config.task == "product_description":
        corpus = _descriptions(work, config.rendering, encoder)
    elif config.task == "sentiment":
        corpus = sentiment_rows(_table(work, "texts"), encoder, seed=config.seed or 0)
    else:
        corpus = _texts(work, config.rendering, encoder)
    _leave(work, "prompt_corpus", corpus)
    work.metrics |= {"rows": corpus.height, "token_histogram": token_histogram(corpus)}


def _dialogue_prompts(work: Workload, encoder: Encoder) -> pl.DataFrame:
    dialogues = _table(work, "dialogues")
    work.say(f"retrieving records for {dialogues.height} questions")
    contexts = build_contexts(dialogues, CatalogIndex.open(Path(work.spec.paths["index"])))
    corpus = render_corpus(dialogues, contexts, encoder)
    work.metrics["retrieval_recall"] = retrieval_recall(corpus)
    return corpus


def _descriptions(work: Workload, policy: RenderingPolicy, encoder: Encoder) -> pl.DataFrame:
    corpus, left_out = product_descriptions(
        _table(work, "assortment"), _table(work, "splits"), policy, encoder
    )
    _leave(work, "left_out", left_out)
    work.metrics["left_out"] = dict(left_out["reason"].value_counts(sort=True).iter_rows())
    return corpus


def _texts(work: Workload, policy: RenderingPolicy, encoder: Encoder) -> pl.DataFrame:
    folder = work.spec.paths.get("knowledge")
    knowledge = knowledge_as_of(folder, work.spec.inputs["knowledge"]) if folder else None
    documents = knowledge.documents if knowledge else []
    corpus = domain_texts(
        _table(work, "assortment"), _table(work, "splits"), documents, policy, encoder
    )
    work.metrics["tokens"] = int(corpus["tokens"].sum())
    return corpus


def _table(work: Workload, name: str) -> pl.DataFrame:
    paths, versions = work.spec.paths, work.spec.inputs
    return TableRef(path=paths[name], sha256=versions[name], rows=0).read()


def _leave(work: Workload, name: str, frame: pl.DataFrame) -> None:
    path = work.folder / f"{name}.parquet"
    frame.write_parquet(path)
    work.output(name, path)


def main() -> None:
    """Entry point of the workload."""
    with workload("Render a task's prompts.") as work:
        render(work)


if __name__ == "__main__":
    main()
