"""Generate the dialogues: by templates, or by a language model.

`python -m retail_assistant.corpus.generate --spec spec.json` leaves `dialogues.parquet`
(`DialogueSchema`) and `unwritten.parquet` (`UNWRITTEN_SCHEMA`): questions without a dialogue, and
rows of store knowledge that cannot be used. Responses of a model are kept under
`<storage>/responses`, whatever becomes of the run. A key is read from the environment by the
process that asks; it is in no spec, manifest or message.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.briefs import Brief
from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.generators.instructions import GENERATION_PROMPT_VERSION
from retail_assistant.corpus.generators.model import GenerationError, Model
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice
from retail_assistant.corpus.generators.template import TemplateGenerator
from retail_assistant.corpus.generators.usage import Usage
from retail_assistant.corpus.generators.writer import ModelGenerator, Unwritten, Written
from retail_assistant.corpus.knowledge import Knowledge, knowledge_as_of, knowledge_dialogues
from retail_assistant.corpus.knowledge_files import KnowledgeError, knowledge_version
from retail_assistant.corpus.planning import DialoguePolicy, plan_dialogues
from retail_assistant.corpus.splits import sample_products
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.objects import ObjectStore, ObjectStoreError
from retail_assistant.storage import StorageError, TableRef
from retail_assistant.storage.bucket import shared_uri

MODULE = "retail_assistant.corpus.generate"
RESPONSES = "responses"
CODE_VERSION = f"1.{TemplateGenerator.version}.{GENERATION_PROMPT_VERSION}"

UNWRITTEN_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "product_name": pl.String(),
        "document": pl.String(),
        "questions": pl.List(pl.String()),
        "reason": pl.String(),
        "detail": pl.String(),
    }
)


class GenerateConfig(BaseModel):
    """Who writes, how a model is asked, what is asked, and about how many products."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: GeneratorChoice = GeneratorChoice()
    generation: GenerationPolicy = GenerationPolicy()
    dialogues: DialoguePolicy = DialoguePolicy()
    train_products: int | None = Field(description="products to learn from; null: all")
    evaluation_products: int | None = Field(description="products to ask about; null: all")
    seed: int


def generation_spec(
    config: GenerateConfig,
    assortment: TableRef,
    splits: TableRef,
    root: Path,
    *,
    knowledge: Path | None = None,
    again: str | None = None,
) -> LaunchSpec:
    """The work that generates dialogues, as the launcher takes it.

    `knowledge` is the store's folder; `again` makes it another piece of work, for example where
    `is_worth_another_run` says so.

    Raises:
        KnowledgeError: the folder cannot be used.
    """
    inputs = {"assortment": assortment.sha256, "splits": splits.sha256}
    paths = {"assortment": assortment.path, "splits": splits.path}
    if knowledge is not None:
        inputs["knowledge"] = knowledge_version(knowledge)
        paths["knowledge"] = knowledge
    if again is not None:
        inputs["again"] = again
    return LaunchSpec(
        name="dialogues",
        module=MODULE,
        config=config.model_dump(mode="json"),
        inputs=inputs,
        paths=paths,
        code_version=CODE_VERSION,
        root=root,
    )


def is_worth_another_run(unwritten: pl.DataFrame) -> bool:
    """Whether questions got no answer that may get one next time (`UNWRITTEN_SCHEMA`)."""
    return unwritten.filter(pl.col("reason") == "no_reply").height > 0


def open_model(choice: GeneratorChoice, policy: GenerationPolicy) -> Model:
    """The model that a choice names, to be entered and asked.

    Raises:
        GenerationError: it cannot be reached from here, or there is no such model.
    """
    from retail_assistant.corpus.generators.endpoint import Endpoint
    from retail_assistant.corpus.generators.offline import OfflineModel
    from retail_assistant.corpus.generators.vertex import vertex_endpoint

    if choice.kind == "vertex":
        return vertex_endpoint(choice, policy)
    if choice.kind == "vllm":
        return OfflineModel(Path(choice.model_name), policy)
    return Endpoint(choice, policy)


def plan(work: Workload, config: GenerateConfig) -> list[Brief]:
    """What to ask about the sampled products."""
    tables = {
        name: TableRef(path=work.spec.paths[name], sha256=work.spec.inputs[name], rows=0).read()
        for name in ("assortment", "splits")
    }
    chosen = sample_products(
        tables["assortment"],
        tables["splits"],
        train=config.train_products,
        evaluation=config.evaluation_products,
        seed=config.seed,
    )
    return plan_dialogues(
        chosen, tables["splits"], tables["assortment"], config.dialogues, seed=config.seed
    )


def generate(work: Workload, config: GenerateConfig) -> tuple[Written, pl.DataFrame]:
    """The dialogues of all that is planned, and of the store's knowledge if a folder is given.

    Returns them, and what could not be written or used (`UNWRITTEN_SCHEMA`).

    Raises:
        GenerationError: a model could not be asked to the end.
        KnowledgeError, ObjectStoreError, StorageError: what is read or kept is not as it should be.
    """
    briefs = plan(work, config)
    folder = work.spec.paths.get("knowledge")
    knowledge = knowledge_as_of(folder, work.spec.inputs["knowledge"]) if folder else None
    if config.generator.kind == "template":
        written = Written(list(TemplateGenerator(seed=config.seed).write(briefs)), [], Usage())
    else:
        written = _ask(work, config, briefs, knowledge)
    unwritten = unwritten_frame(written.unwritten)
    if knowledge is not None:
        written.dialogues.extend(knowledge_dialogues(knowledge.items, config.seed))
        unwritten = pl.concat([unwritten, _unused(knowledge.rejected)])
    return written, unwritten


def _ask(
    work: Workload, config: GenerateConfig, briefs: Sequence[Brief], knowledge: Knowledge | None
) -> Written:
    store = ObjectStore(shared_uri(work.spec.root / RESPONSES))
    store.check()
    choice, policy = config.generator, config.generation
    generator = ModelGenerator(
        choice, policy, partial(open_model, choice, policy), store, seed=config.seed
    )
    work.say(f"{len(briefs)} products to write about with {choice.kind} {choice.model_name}")
    documents = knowledge.documents if knowledge is not None else ()
    return generator.write(briefs, documents, progress=work.progress)


def unwritten_frame(unwritten: Sequence[Unwritten]) -> pl.DataFrame:
    """Rows of `UNWRITTEN_SCHEMA`, sorted."""
    rows = [one.model_dump() for one in unwritten]
    frame = pl.DataFrame(rows, schema=UNWRITTEN_SCHEMA, orient="row")
    return frame.sort("reason", "product_id", "document", "product_name", nulls_last=True)


def _unused(rejected: pl.DataFrame) -> pl.DataFrame:
    """Rows of knowledge files that cannot be used, as rows of `UNWRITTEN_SCHEMA`."""
    return rejected.select(
        pl.lit(None, pl.String).alias("product_id"),
        pl.lit(None, pl.String).alias("product_name"),
        pl.col("file").alias("document"),
        pl.lit([], pl.List(pl.String)).alias("questions"),
        "reason",
        pl.format("row {}: {}", "row", "detail").alias("detail"),
    )


def _run(work: Workload) -> None:
    written, unwritten = generate(work, GenerateConfig.model_validate(work.spec.config))
    tables = {"dialogues": dialogues_frame(written.dialogues), "unwritten": unwritten}
    for name, table in tables.items():
        path = work.folder / f"{name}.parquet"
        table.write_parquet(path, compression="zstd")
        work.output(name, path)
    reasons = unwritten["reason"].value_counts(sort=True)
    work.metrics = {
        "dialogues": tables["dialogues"].height,
        "unwritten": dict(reasons.iter_rows()),
        **written.usage.model_dump(),
    }


def main() -> None:
    """Entry point of the workload."""
    with workload("Generate the dialogues.") as work:
        try:
            _run(work)
        except (GenerationError, KnowledgeError, ObjectStoreError, StorageError) as error:
            # The message says all that a person can act on; the stack says nothing more.
            sys.exit(str(error))


if __name__ == "__main__":
    main()
