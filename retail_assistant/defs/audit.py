"""Whether the evaluation sets ask what shoppers would, and how small a difference they show."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from retail_assistant.defs.io_managers import preview, table_result
from retail_assistant.defs.partitions import REGISTRY, assistant_corpus
from retail_assistant.evaluation.audit import LEVELS, ShopperMix, audit, mix_tests, verdict
from retail_assistant.evaluation.pictures import mix_bars, power_curves
from retail_assistant.evaluation.power import DISCORDANT
from retail_assistant.profiles import load_profile
from retail_assistant.settings import get_settings
from retail_assistant.storage import fingerprint
from retail_assistant.training.jobs import EVALUATED_TASK

LEAST_P = 0.001
"""Below it a set's products are no draw from the assortment; several levels are looked at."""


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "shopper_mix",
            description="What shoppers ask about, at `RETAIL_SHOPPER_MIX`; nothing where none is"
            " named.",
            group_name="evaluation",
            owners=["team:machine-learning"],
            kinds={"yaml"},
        )
    ]
)
def observed_shopper_mix() -> Iterator[dg.ObserveResult]:
    """Look which mix is there."""
    mix = _shopper_mix().model_dump(mode="json")
    yield dg.ObserveResult(
        asset_key="shopper_mix",
        data_version=dg.DataVersion(fingerprint(mix)),
        metadata={"path": str(get_settings().shopper_mix or "none"), "mix": mix},
    )


def _shopper_mix() -> ShopperMix:
    path = get_settings().shopper_mix
    return load_profile(path, ShopperMix) if path else ShopperMix()


@dg.asset(
    group_name="evaluation",
    owners=["team:machine-learning"],
    kinds={"polars", "scipy"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    deps=["shopper_mix"],
    code_version="1",
)
def evaluation_set_audit(
    prompt_corpus: pl.DataFrame, assortment: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """The questions' mix beside the assortment's (and the shoppers'), and what they can show."""
    jobs = len(REGISTRY.of_task(EVALUATED_TASK))
    found = audit(prompt_corpus, assortment, jobs=jobs, shoppers=_shopper_mix())
    asked = dict(found.power.select("subset", "questions").unique().sort("subset").iter_rows())
    bars = "\n\n".join(mix_bars(found.groups, "unseen", level) for level in LEVELS)
    return table_result(
        found.groups,
        verdict=verdict(found),
        mix=preview(found.tests, rows=40),
        mix_plot=dg.MetadataValue.md(bars),
        power=preview(found.power, rows=40),
        power_plot=dg.MetadataValue.md(power_curves(asked, DISCORDANT)),
    )


@dg.asset_check(asset=evaluation_set_audit)
def questions_are_like_the_assortment(
    evaluation_set_audit: pl.DataFrame,
) -> dg.AssetCheckResult:
    """The products that are asked about could be a draw from the assortment."""
    tests = mix_tests(evaluation_set_audit).filter(pl.col("p").is_not_null(), against="assortment")
    least = min(tests["p"].to_list(), default=1.0)
    return dg.AssetCheckResult(
        passed=least >= LEAST_P,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"least_p": least, "allowed_from": LEAST_P},
    )
