"""The assets `training_plan` and `base_model_source` in Dagster."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.base_model import BaseModelFacts, source_version
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.plans import observed_base_model, training_plan
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, write_artefact_ref
from retail_assistant.launch.workload import Workload
from retail_assistant.model_shape import ModelShape
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.training.shapes import LLAMA_70B, SMOLLM2

JOB = "quickstart-closed-book"
Planned = Callable[[ModelShape], dg.ExecuteInProcessResult]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planned]:
    """Materialize the plan of a job for a base model of some shape."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    get_settings.cache_clear()

    def materialize(shape: ModelShape) -> dg.ExecuteInProcessResult:
        store_base_model(tmp_path, shape)
        return dg.materialize(
            [training_plan, dg.AssetSpec("base_model")],
            resources={"io_manager": StorageIOManager()},
            partition_key=JOB,
            raise_on_error=False,
        )

    yield materialize
    get_settings.cache_clear()


def store_base_model(root: Path, shape: ModelShape) -> None:
    facts = BaseModelFacts(
        name="some-model",
        revision="1",
        licence="apache-2.0",
        architecture=shape.architecture,
        parameters=shape.parameters,
        context_length=8192,
        vocabulary_size=shape.vocabulary,
        chat_template="",
        shape=shape,
    )
    spec = LaunchSpec(
        name="base_model",
        module="retail_assistant.base_model",
        config={"name": "some-model"},
        inputs={"source": shape.architecture + str(shape.parameters)},
        code_version="2",
        root=root,
    )
    spec.folder.mkdir(parents=True)
    work = Workload(spec, None)
    (spec.folder / "facts.json").write_text(facts.model_dump_json())
    work.output("facts", spec.folder / "facts.json")
    work.finish()
    ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
    write_artefact_ref(ref, root, "base_model", None)


def test_a_plan_is_shown_with_all_its_alternatives(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_DEVICES", "2 x NVIDIA L4")
    result = planned(SMOLLM2)
    assert result.success
    (event,) = result.asset_materializations_for_node("training_plan")
    metadata = {name: value.value for name, value in event.metadata.items()}
    assert metadata["strategy"] == "single"
    assert metadata["devices"] == "2 x NVIDIA L4 (24.0 GiB each)"
    assert metadata["parameters"] == SMOLLM2.parameters
    assert "**chosen**" in str(metadata["plan"])
    table = TableStore(tmp_path).ref("training_plan", JOB).read()
    assert table.filter("chosen")["strategy"].to_list() == ["single"]
    assert set(table["strategy"]) == {"single", "ddp", "fsdp2", "zero3"}
    assert table.filter("chosen")["total_gib"].item() == pytest.approx(
        metadata["memory_gib"], abs=0.01
    )


def test_a_job_that_fits_nowhere_is_refused_with_the_numbers(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_DEVICES", "cpu")
    result = planned(LLAMA_70B)
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    error = failure.step_failure_data.user_failure_data
    assert error is not None
    assert "nothing fits into" in (error.description or "")
    assert "alternatives" in error.metadata
    # Loaded in float32 it takes 280 GB; in 4-bit still more than this machine would give.
    assert "single:" in (error.description or "")


def test_the_revision_of_the_base_model_is_observed(fresh_settings: None) -> None:
    job = dg.define_asset_job("observe", dg.AssetSelection.assets("base_model_source"))
    graph = dg.Definitions(assets=[observed_base_model], jobs=[job])
    result = graph.resolve_job_def("observe").execute_in_process()
    (observation,) = result.asset_observations_for_node("observed_base_model")
    name = get_settings().base_model
    assert observation.data_version == source_version(name)
    assert observation.metadata["name"].value == name
