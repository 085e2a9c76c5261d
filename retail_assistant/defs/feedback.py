"""What shoppers said of the answers: the table, its report, and candidates for the next corpus."""

from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.defs.io_managers import column_schema, preview
from retail_assistant.serving.feedback.candidates import feedback_candidates as candidates_of
from retail_assistant.serving.feedback.masking import patterns_left
from retail_assistant.serving.feedback.records import of_the_judged
from retail_assistant.serving.feedback.report import (
    LEAST_ASKED,
    FeedbackReport,
    feedback_report,
    headline,
    turns_by_day,
)
from retail_assistant.serving.feedback.shared_records import feedback_records
from retail_assistant.serving.feedback.store import (
    catalog_if_any,
    prune_feedback,
    remove_earlier_tables,
)
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

GROUP = "serving"
OWNERS = ["team:catalog"]
SHOWN = 30
_COMPLETE = "every_turn_is_accounted_for"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite", "polars"},
    deps=["champion"],
    check_specs=[
        dg.AssetCheckSpec(
            _COMPLETE,
            asset="shopper_feedback",
            description="Turns recorded = rows + turns deleted for their age + turns forgotten.",
        )
    ],
    code_version="1",
)
def shopper_feedback(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """A row a turn: its thumb, or why it was declined, and a report.

    What is older than `RETAIL_SERVING_FEEDBACK_DAYS` is deleted first, for good. Only turns that
    were judged or declined have their texts, with personal data masked. The table keeps no earlier
    versions, and the report shows only questions that came repeatedly.
    """
    settings = get_settings()
    days, uri = get_serving_settings().feedback_days, settings.feedback_uri
    gone = prune_feedback(settings.storage, days, uri)
    records = feedback_records(settings.storage, uri)
    kept = records.snapshot()
    records.close()
    report = feedback_report(kept, catalog_if_any(settings.storage))
    context.log.info(f"{headline(report)}; {gone} turns were too old")
    result = _stored("shopper_feedback", of_the_judged(kept.turns), **_shown(report))
    check = dg.AssetCheckResult(
        passed=kept.is_complete,
        check_name=_COMPLETE,
        metadata={"rows": kept.turns.height, **kept.totals._asdict()},
    )
    return result._replace(check_results=[check])


def _shown(report: FeedbackReport) -> dict[str, Any]:
    """The report as metadata, which Dagster keeps for good: nothing of one shopper's alone."""
    repeated = report.unanswered.filter(pl.col("asked") >= LEAST_ASKED)
    answered = report.answered.row(0, named=True)
    return {
        "found": headline(report),
        "share_answered": dg.MetadataValue.json(answered),
        "unanswered_questions": report.unanswered.height,
        "top_unanswered_questions": preview(repeated, rows=SHOWN),
        "products_with_bad_answers": preview(
            report.products.filter(pl.col("down") > 0), rows=SHOWN
        ),
        "verdicts_by_model": preview(report.models, rows=SHOWN),
        "turns_by_day": dg.MetadataValue.md(turns_by_day(report)),
        **report.totals._asdict(),
    }


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars"},
    deps=["assortment"],
    code_version="1",
)
def feedback_candidates(shopper_feedback: pl.DataFrame) -> dg.MaterializeResult:
    """Questions for the next corpus: declined as unknown, or with a thumb down.

    A person answers and approves them: `retail-assistant feedback candidates` writes the sheet,
    `retail-assistant feedback approve` puts what was approved into the store's knowledge.
    """
    found = candidates_of(shopper_feedback, catalog_if_any(get_settings().storage))
    return _stored(
        "feedback_candidates",
        found,
        unknown=int(found["unknown"].sum()),
        thumbs_down=int(found["down"].sum()),
        to_decide="retail-assistant feedback candidates --output candidates.csv",
    )


def _stored(name: str, frame: pl.DataFrame, **metadata: Any) -> dg.MaterializeResult:
    """A table that replaces the one before, and shows none of its rows."""
    store = TableStore(get_settings().storage)
    ref = store.write(frame, name)
    remove_earlier_tables(store, name)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(ref.sha256[:20]),
        metadata={
            "dagster/row_count": frame.height,
            "dagster/column_schema": column_schema(frame),
            **metadata,
            "path": dg.MetadataValue.path(str(ref.path)),
        },
    )


@dg.asset_check(asset="shopper_feedback", blocking=True)
def nobody_is_recognised(shopper_feedback: pl.DataFrame) -> dg.AssetCheckResult:
    """No text has an address, a number or the like of a person; holds the candidates back."""
    texts = pl.concat(
        [shopper_feedback[name] for name in ("question", "answer", "comment")]
    ).drop_nulls()
    found = sum(bool(patterns_left(text)) for text in texts)
    return dg.AssetCheckResult(passed=found == 0, metadata={"texts": len(texts), "found": found})


collect_feedback = dg.define_asset_job(
    "collect_feedback",
    dg.AssetSelection.assets("shopper_feedback", "feedback_candidates"),
    description="What shoppers said since the last time: report, and candidates for the corpus.",
)
