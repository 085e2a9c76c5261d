"""The corpus stage: products become questions and answers to learn from and to be asked."""

import dagster as dg
import polars as pl

from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.generators.template import TemplateGenerator
from retail_assistant.corpus.planning import DialoguePolicy, plan_dialogues
from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.corpus.reuse import dialogue_reuse
from retail_assistant.corpus.screening import screen
from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant.defs.conditions import REFRESH, REFRESH_CORPUS
from retail_assistant.defs.io_managers import preview, table_facts, table_result
from retail_assistant.defs.partitions import task_partitions
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableRef, TableStore

GROUP = "corpus"
OWNERS = ["team:catalog"]
_SETTINGS = get_settings()
LENGTHS = ("prompt_tokens", "grounded_prompt_tokens", "completion_tokens")


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=f"3.{_SETTINGS.seed}",
    automation_condition=REFRESH,
)
def product_splits(
    assortment: pl.DataFrame, near_duplicates: pl.LazyFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Which products may be learned from and which are kept for questions never trained on.

    Near-duplicates stay together, so no sibling of an unseen product is in training. A product
    keeps its side from one catalog to the next.
    """
    before = _last("product_splits")
    splits = split_products(assortment, near_duplicates, seed=get_settings().seed, previous=before)
    return table_result(splits, sizes=preview(splits["split"].value_counts(sort=True)))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    # Other settings, other dialogues: Dagster then shows them as outdated.
    code_version=f"1.{_SETTINGS.seed}.{_SETTINGS.train_products}.{_SETTINGS.evaluation_products}",
    automation_condition=REFRESH,
)
def dialogues(
    context: dg.AssetExecutionContext, assortment: pl.DataFrame, product_splits: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Generated shopping dialogues: question, answer, and the catalog facts that support it."""
    settings = get_settings()
    chosen = sample_products(
        assortment,
        product_splits,
        train=settings.train_products,
        evaluation=settings.evaluation_products,
        seed=settings.seed,
    )
    generator = TemplateGenerator(seed=settings.seed)
    briefs = plan_dialogues(
        chosen, product_splits, assortment, DialoguePolicy(), seed=settings.seed
    )
    frame = dialogues_frame(generator.write(briefs))
    reuse = dialogue_reuse(_last("dialogues"), frame)
    context.log.info(
        f"{frame.height} dialogues about {chosen.height} products, {reuse.new} of them new"
    )
    counts = frame.group_by("subset", "intent").len().sort("subset", "intent")
    return table_result(
        frame,
        products=chosen.height,
        generator=f"{generator.name} {generator.version}",
        by_subset_and_intent=preview(counts, rows=40),
        **reuse.model_dump(exclude={"products"}),
        products_touched=reuse.products,
    )


def _last(asset: str) -> pl.DataFrame | None:
    """The table so far. It is only compared with, so a damaged one counts as none."""
    try:
        return TableStore(get_settings().storage).ref(asset).read()
    except StorageError:
        return None


@dg.multi_asset(
    outs={
        "screened_dialogues": dg.AssetOut(
            dagster_type=pl.DataFrame,
            description="Dialogues that are grounded, unique, free of personal data and of leaks"
            " between what is learned and what is asked.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            automation_condition=REFRESH,
        ),
        "rejected_dialogues": dg.AssetOut(
            dagster_type=pl.DataFrame,
            description="Dialogues that did not pass, each with its reason.",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            automation_condition=REFRESH,
        ),
    },
    group_name=GROUP,
    code_version="1",
)
def screened(
    context: dg.AssetExecutionContext,
    dialogues: pl.DataFrame,
    assortment: pl.DataFrame,
    product_splits: pl.DataFrame,
) -> tuple[dg.Output, dg.Output]:
    """Screen the dialogues; rejected ones are kept with their reasons."""
    passed, rejected = screen(dialogues, assortment, splits=product_splits)
    context.log.info(f"{passed.height} dialogues passed, {rejected.height} rejected")
    reasons = rejected["reason"].value_counts(sort=True)
    return (
        dg.Output(passed, **table_facts(passed)),
        dg.Output(
            rejected,
            output_name="rejected_dialogues",
            **table_facts(rejected, reasons=preview(reasons, rows=20)),
        ),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    partitions_def=task_partitions,
    code_version="1",
    automation_condition=REFRESH_CORPUS,
)
def prompt_corpus(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    screened_dialogues: TableRef,
    catalog_index: ArtefactRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Dialogues as the model reads them: prompts with and without catalog records, completions."""
    spec = LaunchSpec(
        name="prompt_corpus",
        module="retail_assistant.corpus.prompts",
        config={},
        inputs={
            "dialogues": screened_dialogues.sha256,
            "index": catalog_index.fingerprint,
            "base_model": base_model.fingerprint,
        },
        paths={
            "dialogues": screened_dialogues.path,
            "index": catalog_index.folder / "index",
            "base_model": base_model.folder / "model",
        },
        code_version=f"1.{PROMPT_VERSION}",
        root=get_settings().storage,
    )
    ref = launcher.launch(context, spec)
    corpus = pl.read_parquet(ref.path("prompt_corpus"))
    lengths = corpus.select(pl.col(LENGTHS)).describe(percentiles=(0.5, 0.95))
    return table_result(
        corpus,
        fingerprint=ref.fingerprint,
        retrieval_recall=ref.manifest().metrics["retrieval_recall"],
        lengths=preview(lengths, rows=20),
    )


@dg.asset_check(
    asset="screened_dialogues",
    additional_ins={
        "rejected": dg.AssetIn("rejected_dialogues"),
        "generated": dg.AssetIn("dialogues"),
    },
    blocking=True,
)
def every_dialogue_is_accounted_for(
    screened_dialogues: pl.DataFrame, rejected: pl.DataFrame, generated: pl.DataFrame
) -> dg.AssetCheckResult:
    """Generated = screened + rejected."""
    return dg.AssetCheckResult(
        passed=generated.height == screened_dialogues.height + rejected.height,
        metadata={"generated": generated.height, "rejected": rejected.height},
    )


@dg.asset_check(asset="product_splits", blocking=True)
def no_cluster_is_on_two_sides(product_splits: pl.DataFrame) -> dg.AssetCheckResult:
    """Near-duplicates are all learned from, or all kept for asking."""
    sides = product_splits.group_by("cluster_id").agg(pl.col("split").n_unique())
    split_clusters = sides.filter(pl.col("split") > 1).height
    return dg.AssetCheckResult(
        passed=split_clusters == 0,
        metadata={"clusters": sides.height, "on_two_sides": split_clusters},
    )


@dg.asset_check(asset="screened_dialogues", blocking=True)
def every_evaluation_set_has_questions(screened_dialogues: pl.DataFrame) -> dg.AssetCheckResult:
    """There is something to learn from, and something to ask in each evaluation set."""
    counts = dict(screened_dialogues["subset"].value_counts().iter_rows())
    wanted = ("train", "recall", "unseen", "unanswerable")
    return dg.AssetCheckResult(
        passed=all(counts.get(subset, 0) > 0 for subset in wanted),
        metadata={subset: counts.get(subset, 0) for subset in wanted},
    )
