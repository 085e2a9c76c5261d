"""A storage folder that holds what a training needs, as if the graph had made it."""

from pathlib import Path
from shutil import copytree

import polars as pl

from retail_assistant.base_model import source_version
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, write_artefact_ref
from retail_assistant.storage import TableStore
from retail_assistant_tests.training.trainings import domain_corpus, small_corpus


def keep_base_model(storage: Path, model: Path) -> ArtefactRef:
    """The artefact of a base model; made once for all storage folders, beside the model."""
    spec = LaunchSpec(
        name="base_model",
        module="retail_assistant.base_model",
        config={"name": str(model)},
        inputs={"source": source_version(str(model))},
        code_version="2",
        root=model.with_name(f"{model.name}-made"),
    )
    run_local(spec)
    kept = spec.model_copy(update={"root": storage})
    copytree(spec.folder, kept.folder)
    ref = ArtefactRef(folder=kept.folder, fingerprint=kept.fingerprint)
    write_artefact_ref(ref, storage, "base_model", None)
    return ref


def fill_storage(storage: Path, model: Path, copies: int = 1) -> None:
    """A base model, and the corpora `assistant` (ten rows to learn from, `copies` times) and
    `domain_text`."""
    keep_base_model(storage, model)
    rows = pl.concat(
        small_corpus().with_columns(pl.col("dialogue_id") + f"-{copy}") for copy in range(copies)
    )
    tables = TableStore(storage)
    tables.write(rows, "prompt_corpus", "assistant")
    tables.write(domain_corpus(), "prompt_corpus", "domain_text")
