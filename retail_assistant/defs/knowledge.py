"""The store's knowledge: terms, questions and documents that are not ours to change."""

from collections.abc import Iterator

import dagster as dg

from retail_assistant.corpus.knowledge_files import KnowledgeError, knowledge_version
from retail_assistant.settings import get_settings

NO_KNOWLEDGE = "none"


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "store_knowledge",
            description="The folder at `RETAIL_KNOWLEDGE`: terms, questions and documents of the"
            " store. It is not ours to change: its version is observed.",
            group_name="corpus",
            owners=["team:catalog"],
            kinds={"csv", "yaml", "markdown"},
        )
    ]
)
def observed_knowledge() -> Iterator[dg.ObserveResult]:
    """Look which version of the store's knowledge is there."""
    folder = get_settings().knowledge
    if folder is None:
        yield dg.ObserveResult(
            asset_key="store_knowledge", data_version=dg.DataVersion(NO_KNOWLEDGE)
        )
        return
    try:
        version = knowledge_version(folder)
    except KnowledgeError as error:
        raise dg.Failure(f"RETAIL_KNOWLEDGE: {error}") from error
    yield dg.ObserveResult(
        asset_key="store_knowledge",
        data_version=dg.DataVersion(version),
        metadata={"folder": dg.MetadataValue.path(str(folder))},
    )
