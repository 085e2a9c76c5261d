"""The champion on the questions of now: its own adapter answers, whatever its job trained since."""

import dagster as dg
import polars as pl

from retail_assistant.defs.adapters import TRAINING_POOL
from retail_assistant.defs.answering import answering_spec
from retail_assistant.defs.evaluation import GROUP, OWNERS
from retail_assistant.defs.io_managers import preview, table_result
from retail_assistant.defs.partitions import assistant_corpus
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.champion_history import ChampionHistory
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.contest import ADAPTER
from retail_assistant.evaluation.drift import Drift, drift
from retail_assistant.evaluation.metrics import SCORED_SCHEMA, score, summarize
from retail_assistant.evaluation.pictures import accuracy_bars
from retail_assistant.evaluation.promotion_policy import get_promotion_policy
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import LaunchSpec, artefact_at
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableRef, TableStore

NOBODY = "nothing was promoted yet"
NO_ANSWERS = pl.DataFrame(
    schema={
        "dialogue_id": pl.String,
        "variant": pl.String,
        "answer": pl.String,
        "finish_reason": pl.String,
        "prompt_tokens": pl.UInt32,
        "completion_tokens": pl.UInt32,
        ADAPTER: pl.String,
    }
)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    pool=TRAINING_POOL,
    code_version="1",
)
def champion_predictions(
    context: dg.AssetExecutionContext, launcher: Launcher, prompt_corpus: TableRef
) -> dg.MaterializeResult[pl.DataFrame]:
    """The champion's answers to the questions of now, from the adapter that was promoted.

    Nothing is trained. What its job has answered with the same adapter is not asked again. Empty
    where nothing was promoted yet, or where the champion's files are not intact.
    """
    champions = Champions(get_settings(), context.log.warning)
    champion = champions.settle()
    if champion is None:
        context.log.info(NOBODY)
        return table_result(NO_ANSWERS, found=NOBODY)
    wrong = champions.is_intact(champions.reign_of(champion.adapter.fingerprint))
    if wrong:
        context.log.warning(f"the champion, {champion.job}, cannot be asked: {wrong}")
        return table_result(NO_ANSWERS, found=wrong)
    ref = launcher.launch(context, _spec(champion, prompt_corpus))
    answers = pl.read_parquet(ref.path("predictions")).filter(variant=champion.job)
    return table_result(
        answers.with_columns(pl.lit(champion.adapter.fingerprint).alias(ADAPTER)),
        job=champion.job,
        artefact=dg.MetadataValue.path(str(ref.folder)),
    )


def _spec(champion: Champion, prompt_corpus: TableRef) -> LaunchSpec:
    return answering_spec(
        champion.job,
        champion.grounding,
        prompt_corpus,
        artefact_at(get_settings().storage, "base_model", champion.base_model),
        champion.adapter,
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "scipy"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    code_version="1",
)
def champion_report(
    prompt_corpus: pl.DataFrame, champion_predictions: pl.DataFrame, assortment: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Every answer of the champion judged, with metrics: what challengers have to beat."""
    if champion_predictions.is_empty():
        return table_result(pl.DataFrame(schema={**SCORED_SCHEMA, ADAPTER: pl.String}))
    adapter = champion_predictions[ADAPTER][0]
    scored = score(prompt_corpus, champion_predictions.drop(ADAPTER), assortment)
    summary = summarize(scored, seed=get_settings().seed)
    return table_result(
        scored.with_columns(pl.lit(adapter).alias(ADAPTER)),
        metrics=preview(summary, rows=60),
        accuracy=dg.MetadataValue.md(accuracy_bars(summary)),
    )


@dg.asset_check(asset="champion_report")
def champion_holds(champion_report: pl.DataFrame) -> dg.AssetCheckResult:
    """On the questions of now the champion does as it did when it was promoted.

    Worse is a change beyond the policy's tolerance, its whole 95% interval (MOVER, over products);
    the absolute limits of the policy hold as well. The policy says how severe that is.
    """
    history = ChampionHistory(get_settings())
    champion = history.current()
    if champion is None:
        return dg.AssetCheckResult(passed=True, description=NOBODY)
    own = champion_report.filter(pl.col(ADAPTER) == champion.adapter.fingerprint)
    if own.is_empty():
        words = f"the champion, {champion.job}, did not answer: see champion_predictions"
        return dg.AssetCheckResult(passed=False, description=words)
    summary = summarize(own.drop(ADAPTER), seed=get_settings().seed)
    found = drift(history.promoted_with(), summary, champion.job, get_promotion_policy())
    return dg.AssetCheckResult(
        passed=found.holds,
        severity=dg.AssetCheckSeverity[found.severity.upper()],
        description=found.words,
        metadata=_told(found),
    )


def _told(found: Drift) -> dict[str, dg.MetadataValue]:
    changes = [
        {
            "metric": one.metric,
            "set": one.subset,
            "promoted with": one.then.words,
            "now": one.now.words,
            "change": f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]",
            "worse": str(one.worse),
        }
        for one in found.changes
    ]
    return {
        "changes": preview(pl.DataFrame(changes), rows=20),
        "limits": dg.MetadataValue.json([one.model_dump() for one in found.limits]),
        "policy": dg.MetadataValue.json(found.policy.model_dump(mode="json")),
    }


evaluate_champion = dg.define_asset_job(
    "evaluate_champion",
    dg.AssetSelection.assets("champion_predictions", "champion_report", "champion_journeys"),
    description="The champion's own answers to the questions of now, judged, and its conversations"
    " with shoppers; nothing is trained.",
)


@dg.sensor(
    name="champion_watch",
    job=evaluate_champion,
    minimum_interval_seconds=get_settings().refresh_interval,
    default_status=(
        dg.DefaultSensorStatus.RUNNING if get_settings().refresh else dg.DefaultSensorStatus.STOPPED
    ),
    description="Ask the champion again when the prompts have changed, or when it is another one.",
)
def champion_watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request the champion's evaluation once for each corpus and adapter."""
    settings = get_settings()
    champion = ChampionHistory(settings).current()
    if champion is None:
        return dg.SkipReason(NOBODY)
    try:
        corpus = TableStore(settings.storage).ref("prompt_corpus", "assistant")
    except StorageError as error:
        return dg.SkipReason(str(error))
    wanted = f"{corpus.sha256} {champion.adapter.fingerprint}"
    if wanted == context.cursor:
        return dg.SkipReason(f"{champion.job} was asked about this corpus")
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=wanted)
