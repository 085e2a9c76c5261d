"""The adapter asset: a job with both stages, really trained, and what the UI shows of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.base_model import BaseModelFacts
from retail_assistant.defs.adapters import adapter, training_spec
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.partitions import REGISTRY, task_partitions
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import LaunchSpec, Manifest, read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant.training.planning.plan import plan_for
from retail_assistant.training.resources import ResourceRequest
from retail_assistant_tests.training.storage import fill_storage

JOB = "domain-first"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage folder with a base model and corpora, and settings that name it."""
    folder = tmp_path_factory.mktemp("adapters") / "var"
    fill_storage(folder, tiny_model_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAIL_STORAGE_URI", str(folder))
        patch.setenv("RETAIL_BASE_MODEL", str(tiny_model_folder))
        patch.setenv("RETAIL_DEVICES", "auto")
        get_settings.cache_clear()
        yield folder
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def trained(storage: Path) -> dg.ExecuteInProcessResult:
    """A run of the asset for one job, with its domain stage."""
    return dg.materialize(
        [
            adapter,
            dg.AssetSpec("base_model"),
            dg.AssetSpec("prompt_corpus", partitions_def=task_partitions),
        ],
        partition_key=JOB,
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        raise_on_error=False,
    )


def manifest_in(storage: Path) -> Manifest:
    return read_artefact_ref(storage, "adapter", JOB).manifest()


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("adapter")
    return dict(event.metadata)


def test_a_job_with_the_domain_stage_reads_both_corpora(
    trained: dg.ExecuteInProcessResult, storage: Path
) -> None:
    assert trained.success
    manifest = manifest_in(storage)
    tables = TableStore(storage)
    assert manifest.inputs["prompt_corpus"] == tables.ref("prompt_corpus", "assistant").sha256
    assert manifest.inputs["domain_corpus"] == tables.ref("prompt_corpus", "domain_text").sha256
    assert manifest.metrics["domain_texts"] == 6


def test_the_ui_shows_how_it_went(trained: dg.ExecuteInProcessResult) -> None:
    shown = metadata_of(trained)
    for name in ("loss_curve", "learning_rate_curve"):
        assert "data:image/png;base64" in shown[name].md_str
    assert "# " in shown["model_card"].md_str
    assert "single" in shown["plan"].md_str
    assert shown["samples"].records
    assert shown["history"].records
    assert Path(shown["log"].value).is_file()
    assert "/#/experiments/" in shown["mlflow_run"].value
    assert shown["trainable_parameters"].value > 0
    assert shown["tokens_per_second"].value > 0
    assert shown["study"].value == "domain-adaptation"


def spec_for(storage: Path, **asked: Any) -> LaunchSpec:
    job = REGISTRY.job(JOB).model_copy(update={"resources": ResourceRequest(**asked)})
    base = read_artefact_ref(storage, "base_model")
    facts = BaseModelFacts.model_validate_json(base.path("facts").read_text())
    tables = TableStore(storage)
    corpora = {name: tables.ref("prompt_corpus", name) for name in job.corpora}
    plan = plan_for(job, get_settings(), facts)
    return training_spec(job, plan, corpora, base, get_settings())


def test_machines_and_time_are_what_the_job_asks_for(storage: Path) -> None:
    spec = spec_for(storage, processes=2, max_runtime_minutes=30, memory_gib=6)
    assert spec.resources.processes == 2
    assert spec.resources.gpus == 0
    assert spec.resources.max_runtime_minutes == 30
    assert spec.resources.memory_gib == 6
    assert spec.accelerate is not None
    assert spec.accelerate["num_processes"] == 2
    assert spec.accelerate["use_cpu"]


def test_patience_and_priority_make_no_other_adapter_but_more_processes_do(storage: Path) -> None:
    alone = spec_for(storage)
    assert spec_for(storage, retries=9, priority=9, max_runtime_minutes=9).folder == alone.folder
    assert spec_for(storage, processes=2).folder != alone.folder
