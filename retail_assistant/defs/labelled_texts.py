"""Labelled texts: a file that is not ours to change, and what of it can be used."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from retail_assistant.corpus.labelled_texts import REJECTED, read_labelled_texts
from retail_assistant.corpus.profile import get_corpus_profile
from retail_assistant.defs.conditions import REFRESH_ONCE_MADE
from retail_assistant.defs.io_managers import preview, table_facts
from retail_assistant.settings import SHIPPED_TEXTS, get_settings
from retail_assistant.storage import file_sha256, fingerprint

GROUP = "corpus"
OWNERS = ["team:machine-learning"]


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "labelled_text_file",
            description="The file at `RETAIL_LABELLED_TEXTS`: texts with one of two labels each."
            " It is not ours to change: its version is observed.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"csv", "parquet"},
        )
    ]
)
def observed_labelled_texts() -> Iterator[dg.ObserveResult]:
    """Look which version of the labelled texts is there."""
    file = get_settings().labelled_texts
    yield dg.ObserveResult(
        asset_key="labelled_text_file",
        data_version=dg.DataVersion(file_sha256(file)[:20]),
        metadata={"file": dg.MetadataValue.path(str(file))},
    )


@dg.multi_asset(
    outs={
        name: dg.AssetOut(
            dagster_type=pl.DataFrame,
            description=description,
            owners=OWNERS,
            kinds={"polars", "parquet"},
            automation_condition=REFRESH_ONCE_MADE,
        )
        for name, description in (
            ("labelled_texts", "Texts with one of two labels each, and what reviewers say."),
            ("rejected_labelled_texts", "Rows of the file that are not used, with a reason each."),
        )
    },
    deps=["labelled_text_file"],
    group_name=GROUP,
    code_version=f"1.{fingerprint(get_corpus_profile().sentiment.model_dump())[:8]}",
)
def cleaned_labelled_texts() -> Iterator[dg.MaterializeResult[pl.DataFrame]]:
    """The file, cleaned: every row of it is in one of both tables."""
    file = get_settings().labelled_texts
    found = read_labelled_texts(file, get_corpus_profile().sentiment)
    made_up = {"made_up": "the reviews that ship with the project; no shopper wrote them"}
    yield dg.MaterializeResult(
        asset_key="labelled_texts",
        value=found.texts,
        **table_facts(
            found.texts,
            labels=preview(found.texts["label"].value_counts(sort=True)),
            negative=found.labels[0],
            positive=found.labels[1],
            unknown_reviews=dg.MetadataValue.json(found.unknown_reviews),
            **(made_up if file == SHIPPED_TEXTS else {}),
        ),
    )
    yield dg.MaterializeResult(
        asset_key="rejected_labelled_texts",
        value=found.rejected,
        **table_facts(
            found.rejected,
            reasons=preview(found.rejected["reason"].value_counts(sort=True), rows=len(REJECTED)),
        ),
    )
