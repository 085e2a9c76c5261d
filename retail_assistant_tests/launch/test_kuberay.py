"""The RayJob manifest: the same spec as a local run, GPUs on chosen nodes, no secrets inside.

`test_kuberay.ambr` holds manifests that were checked against the CustomResourceDefinition of
KubeRay at commit feeaf72 (August 2026), unknown fields refused.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from retail_assistant.launch.kuberay import SECRET_VARIABLES, Kubernetes, ray_job_manifest
from retail_assistant.launch.ray_job import entrypoint
from retail_assistant.launch.spec import LaunchSpec, Resources

CLUSTER = Kubernetes(
    image="registry.example.com/retail-assistant:1",
    namespace="ml",
    node_selector={"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"},
)
ENVIRONMENT = {
    "RETAIL_MLFLOW_UI": "https://mlflow.example.com",
    "RETAIL_GENERATOR_API_KEY": "sk-do-not-show",
    "RETAIL_MLFLOW_URI": "postgresql://mlflow:do-not-show@db/mlflow",
    "HF_TOKEN": "hf-do-not-show",
}


def spec_of(**fields: Any) -> LaunchSpec:
    given: dict[str, Any] = {
        "name": "adapter",
        "module": "retail_assistant.training.finetune",
        "config": {"task": "assistant"},
        "inputs": {"base_model": "v1"},
        "code_version": "1",
        "root": Path("/storage"),
        "accelerate": {"distributed_type": "NO", "num_processes": 1},
    }
    return LaunchSpec(**(given | fields))


NEEDS = {
    "one GPU": Resources(gpus=1, memory_gib=40, max_runtime_minutes=90),
    "two nodes": Resources(processes=8, nodes=2, gpus=8, cpus=64, memory_gib=400),
    "no GPU": Resources(memory_gib=4.5),
}


@pytest.fixture(autouse=True)
def _python_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/opt/venv/bin/python")


@pytest.mark.parametrize("needs", NEEDS)
def test_manifests(needs: str, snapshot: SnapshotAssertion) -> None:
    manifest = ray_job_manifest(
        spec_of(resources=NEEDS[needs]), CLUSTER, ENVIRONMENT, suffix="abc123"
    )
    assert manifest == snapshot


@pytest.mark.parametrize("needs", NEEDS)
@pytest.mark.fault(
    "Work is handed to Ray or Kubernetes, where anybody reads its description",
    "No secret stands in it; the cluster gives its own",
)
def test_no_secret_stands_in_a_manifest(needs: str) -> None:
    spec = spec_of(resources=NEEDS[needs])
    manifest = ray_job_manifest(spec, CLUSTER, ENVIRONMENT, suffix="abc123")
    assert "do-not-show" not in yaml.safe_dump(manifest)
    for group in ("headGroupSpec", "workerGroupSpecs"):
        found = manifest["spec"]["rayClusterSpec"][group]
        template = (found if isinstance(found, dict) else found[0])["template"]
        variables = template["spec"]["containers"][0]["env"]
        assert {variable["name"] for variable in variables} == set(SECRET_VARIABLES)
        assert all("secretKeyRef" in variable["valueFrom"] for variable in variables)


def test_the_work_is_the_one_that_a_ray_job_does() -> None:
    manifest = ray_job_manifest(spec_of(), CLUSTER, {}, suffix="abc123")
    assert manifest["spec"]["entrypoint"] == entrypoint(spec_of())
    mounts = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert {"name": "storage", "mountPath": "/storage"} in mounts["containers"][0]["volumeMounts"]


def test_names_fit_kuberays_limit() -> None:
    spec = spec_of(name="a" * 60 + "_b")
    name = ray_job_manifest(spec, CLUSTER, {}, suffix="abc123")["metadata"]["name"]
    assert len(name) <= 47
    assert "_" not in name
