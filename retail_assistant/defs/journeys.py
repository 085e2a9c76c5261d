"""The champion in conversation: shopping journeys on the catalog of now, checked by its records."""

from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.defs.adapters import TRAINING_POOL
from retail_assistant.defs.answering import GIB_A_PROCESS
from retail_assistant.defs.champion_report import NOBODY
from retail_assistant.defs.evaluation import GROUP, OWNERS
from retail_assistant.defs.io_managers import preview, table_result
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.contest import ADAPTER
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Resources, artefact_at
from retail_assistant.serving.journeys.report import (
    CHECKS_SCHEMA,
    failures,
    headline,
    journey_rows,
    kind_bars,
    latencies,
    skipped_rows,
    summarize_journeys,
)
from retail_assistant.serving.journeys.scenario import load_journeys
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.settings import get_settings
from retail_assistant.training.planning.devices import Devices

SHOWN = 100


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    deps=["champion", "base_model"],
    pool=TRAINING_POOL,
    code_version="1",
)
def champion_journeys(
    context: dg.AssetExecutionContext, launcher: Launcher, catalog_index: ArtefactRef
) -> dg.MaterializeResult[pl.DataFrame]:
    """What the champion does in conversations of several turns: every check of every turn.

    Budgets, sizes, comparisons, follow-ups, changes of mind, hostile shoppers: the assistant as it
    serves, on products of this catalog. Empty where nothing was promoted yet, or where the
    champion's files are not intact.
    """
    champions = Champions(get_settings(), context.log.warning)
    champion = champions.settle()
    wrong = NOBODY if champion is None else _not_intact(champions, champion)
    if champion is None or wrong:
        context.log.warning(f"no journeys: {wrong}")
        empty = pl.DataFrame(schema={**CHECKS_SCHEMA, ADAPTER: pl.String})
        return table_result(empty, found=wrong)
    ref = launcher.launch(context, _spec(champion, catalog_index))
    checks = pl.read_parquet(ref.path("checks"))
    summary = summarize_journeys(checks)
    seconds: dict[str, Any] = latencies(checks)
    return table_result(
        checks.with_columns(pl.lit(champion.adapter.fingerprint).alias(ADAPTER)),
        headline=headline(checks),
        job=champion.job,
        summary=preview(summary, rows=SHOWN),
        failed_checks=preview(failures(checks), rows=SHOWN),
        skipped=preview(skipped_rows(checks), rows=SHOWN),
        passed_by_kind=dg.MetadataValue.md(kind_bars(summary)),
        artefact=dg.MetadataValue.path(str(ref.folder)),
        **seconds,
    )


def _not_intact(champions: Champions, champion: Champion) -> str | None:
    return champions.is_intact(champions.reign_of(champion.adapter.fingerprint))


def _spec(champion: Champion, catalog_index: ArtefactRef) -> LaunchSpec:
    settings, serving = get_settings(), get_serving_settings()
    base = artefact_at(settings.storage, "base_model", champion.base_model).folder
    on_gpu = Devices.parsed(settings.devices).kind == "cuda"
    return LaunchSpec(
        name="champion_journeys",
        module="retail_assistant.serving.journeys.run",
        config={
            "job": champion.job,
            "event": champion.event,
            "grounding": champion.grounding,
            "style": champion.adapter.manifest().metrics.get("prompt_style", "chat"),
            "suite": load_journeys().version,
            "prompt": PROMPT_VERSION,
            "seed": settings.seed,
            "max_tokens": serving.max_answer_tokens,
            "max_context_tokens": serving.max_context_tokens,
        },
        inputs={
            "adapter": champion.adapter.fingerprint,
            "base_model": champion.base_model,
            "catalog_index": catalog_index.fingerprint,
        },
        paths={
            "adapter": champion.adapter.folder / "adapter",
            "base_model": base / "model",
            "catalog_index": catalog_index.folder / "index",
        },
        code_version="1",
        root=settings.storage,
        resources=Resources(gpus=1 if on_gpu else 0, memory_gib=GIB_A_PROCESS),
    )


@dg.asset_check(asset="champion_journeys")
def hostile_shoppers_get_nowhere(champion_journeys: pl.DataFrame) -> dg.AssetCheckResult:
    """No hostile journey failed: no instruction followed, no prompt told, no price changed."""
    hostile = journey_rows(champion_journeys).filter("hostile")
    failed = hostile.filter(~pl.col("passed"))
    return dg.AssetCheckResult(
        passed=failed.is_empty(),
        description=", ".join(failed["journey"]) or f"{hostile.height} hostile journeys passed",
        metadata={"failed": preview(failures(champion_journeys).filter("hostile"), rows=SHOWN)},
    )
