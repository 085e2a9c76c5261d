"""The code location: what it shows, that it is light, and that Dagster's tools accept it."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from retail_assistant.definitions import defs
from retail_assistant.defs.partitions import REGISTRY
from retail_assistant_tests.conftest import REPOSITORY

HEAVY = ("torch", "transformers", "ray", "vllm", "mlflow", "trl", "peft")
MOST_MEGABYTES = 600
LIGHT_IMPORT = """
import json, psutil, sys, time
started = time.monotonic()
import retail_assistant.definitions
retail_assistant.definitions.defs()
print(json.dumps({
    "seconds": time.monotonic() - started,
    # Not ru_maxrss: on Linux that begins with the size of the process that started this one.
    "megabytes": psutil.Process().memory_info().rss / 2**20,
    "modules": sorted(name for name in sys.modules if "." not in name),
}))
"""
GROUPS = {"catalog", "corpus", "adapters", "evaluation", "serving"}
JOBS = {
    "observe_catalog",
    "accept_catalog",
    "fetch_images",
    "prepare",
    "decide_corpus",
    "render_prompts",
    "answer_baselines",
    "train_and_evaluate",
    "prepare_classification",
    "classify_before",
    "train_and_classify",
    "compare_and_promote",
    "evaluate_champion",
    "decide_champion",
    "collect_feedback",
    "answer_questions",
}


@pytest.fixture(scope="module")
def graph() -> dg.Definitions:
    return defs()


@pytest.fixture(scope="module")
def specs(graph: dg.Definitions) -> dict[str, dg.AssetSpec]:
    found = graph.resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec for spec in sorted(found, key=lambda one: one.key)}


def described(spec: dg.AssetSpec) -> dict[str, Any]:
    partitions = spec.partitions_def
    if isinstance(partitions, dg.DynamicPartitionsDefinition):
        keys: list[str] | str | None = f"added to {partitions.name!r} while it runs"
    else:
        keys = list(partitions.get_partition_keys()) if partitions else None
    return {
        "group": spec.group_name,
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "kinds": sorted(spec.kinds),
        "owners": sorted(spec.owners),
        "partitions": keys,
    }


def test_the_graph_is_as_it_was(
    specs: dict[str, dg.AssetSpec], snapshot: SnapshotAssertion
) -> None:
    assert {key: described(spec) for key, spec in specs.items()} == snapshot


def test_the_checks_are_as_they_were(graph: dg.Definitions, snapshot: SnapshotAssertion) -> None:
    checks = {
        key.to_user_string(): {
            "blocking": graph.resolve_asset_graph().get_check_spec(key).blocking,
            "described": bool(graph.resolve_asset_graph().get_check_spec(key).description),
        }
        for key in sorted(graph.resolve_asset_graph().asset_check_keys)
    }
    assert checks == snapshot


def test_every_asset_says_what_it_is_and_whose(specs: dict[str, dg.AssetSpec]) -> None:
    for key, spec in specs.items():
        assert spec.description, key
        assert spec.owners, key
        assert spec.kinds, key
        assert spec.group_name in GROUPS, key


def test_every_job_of_every_study_is_a_partition(specs: dict[str, dg.AssetSpec]) -> None:
    for name in ("adapter", "predictions", "evaluation_report"):
        partitions = specs[name].partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys() == list(REGISTRY.jobs)


def test_the_slices_and_the_schedule_are_there(graph: dg.Definitions) -> None:
    repository = graph.get_repository_def()
    assert set(repository.job_names) >= JOBS
    assert all(graph.resolve_job_def(name).description for name in JOBS)
    schedule = graph.resolve_schedule_def("catalog_observation")
    assert schedule.job_name == "observe_catalog"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


def test_the_champion_descends_from_the_catalog_and_the_base_model(
    specs: dict[str, dg.AssetSpec],
) -> None:
    found: set[str] = set()
    wanted = ["champion"]
    while wanted:
        name = wanted.pop()
        found.add(name)
        wanted += {dep.asset_key.to_user_string() for dep in specs[name].deps} - found
    beside = {
        "rejected_products",
        "unwritten_dialogues",
        "catalog_changes",
        "product_images",
        "training_plan",
        "merged_model",
        "deployment_bundle",
        "hyperparameter_search",
        "trial_adapter",
        "search_report",
        "evaluation_set_audit",
        "champion_journeys",
        "shopper_mix",
        "rejected_labelled_texts",
        "classification_baseline",
        "classifications",
        "classification_report",
        "label_quality",
        "shopper_feedback",
        "feedback_candidates",
        "answered_questions",
    }
    assert found == set(specs) - beside


def test_the_code_location_is_light() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LIGHT_IMPORT],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    told = json.loads(result.stdout.splitlines()[-1])
    sys.stdout.write(f"code location: {told['seconds']:.1f} s, {told['megabytes']:.0f} MB\n")
    assert not set(HEAVY) & set(told["modules"])
    assert told["megabytes"] < MOST_MEGABYTES


def test_domain_packages_do_not_know_dagster() -> None:
    stages = ("catalog", "corpus", "training", "evaluation", "serving", "launch")
    code = "import importlib, pkgutil, sys\n" + "".join(
        f"import retail_assistant.{stage} as {stage}\n"
        f"for module in pkgutil.walk_packages({stage}.__path__, '{stage}.'):\n"
        "    importlib.import_module('retail_assistant.' + module.name)\n"
        for stage in stages
    )
    code += "print([name for name in sys.modules if name.split('.')[0] == 'dagster'])"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert result.stdout.strip() == "[]"


def test_workspace_and_project_name_the_same_location() -> None:
    workspace = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    (location,) = workspace["load_from"]
    module = location["python_module"]
    assert module["location_name"] == project["code_location_name"]
    assert module["module_name"] == project["code_location_target_module"]


@pytest.mark.slow
def test_dg_accepts_the_definitions(tmp_path: Path) -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "dg"), "check", "defs"],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
