"""The manifests as kustomize renders them, and every pod that comes of them.

Pods are those of the objects themselves, those of the RayJobs that the launcher makes from the
templates, and the pod of a Dagster run as Dagster's own launcher makes it.
"""

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes.manifests import OVERLAYS, objects, overlays, render
from deploy.kubernetes.schemas import pod_templates
from retail_assistant.launch.kuberay import Kubernetes, ray_job_manifest
from retail_assistant.launch.kuberay_template import read_template
from retail_assistant.launch.spec import LaunchSpec, Resources
from retail_assistant.settings import Settings

ALL = overlays()
GPU = [name for name in ALL if name != "cpu"]
SETTINGS = "retail-assistant-settings"
FETCHED = "product_images"
TRAINED = "adapter"


@cache
def text_of(overlay: str) -> str:
    """What kustomize prints for an overlay."""
    return render(OVERLAYS / overlay)


@cache
def objects_of(overlay: str) -> list[dict[str, Any]]:
    """Its objects."""
    return objects(text_of(overlay))


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects_of(overlay) if one["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name]
    return found


def settings_of(overlay: str) -> dict[str, str]:
    """The variables that all pods of ours share."""
    return dict(named(overlay, "ConfigMap", SETTINGS)["data"])


def kuberay_of(overlay: str, asset: str) -> Kubernetes:
    """Where the launcher runs RayJobs, by the overlay's own settings and templates."""
    given = settings_of(overlay)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in named(overlay, "ConfigMap", "ray-jobs")["data"].items():
            (Path(folder) / name).write_text(text)
        template = read_template(Path(folder), asset)
    nodes = Settings(kuberay_nodes=given.get("RETAIL_KUBERAY_NODES", "")).kuberay_nodes
    return Kubernetes(
        image=given["RETAIL_KUBERAY_IMAGE"],
        namespace=given["RETAIL_KUBERAY_NAMESPACE"],
        node_selector=nodes,
        template=template,
    )


def ray_job(overlay: str, asset: str, needs: Resources) -> dict[str, Any]:
    """The RayJob that the launcher makes for an asset in this overlay."""
    spec = LaunchSpec(
        name=asset,
        module="retail_assistant.training.finetune",
        config={},
        inputs={},
        code_version="1",
        root=Path("/var/lib/retail-assistant"),
        resources=needs,
    )
    return ray_job_manifest(spec, kuberay_of(overlay, asset), settings_of(overlay), "abc123")


@cache
def ray_jobs(overlay: str) -> list[dict[str, Any]]:
    """A training's RayJob, and that of image fetchers."""
    gpus = 0 if overlay == "cpu" else 1
    return [
        ray_job(overlay, TRAINED, Resources(gpus=gpus, memory_gib=40, max_runtime_minutes=90)),
        ray_job(overlay, FETCHED, Resources()),
    ]


@cache
def dagster_run(overlay: str) -> dict[str, Any]:
    """The Job of a Dagster run, by the instance's launcher and the code location's context."""
    from dagster_k8s.job import construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    launcher = run_launcher(overlay)
    context = launcher.get_container_context_for_run(run_of(overlay))
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(image_of_runs(overlay), launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run",
        pod_name="dagster-run",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    return dict(ApiClient().sanitize_for_serialization(job))


def run_launcher(overlay: str) -> Any:
    """Dagster's launcher as the instance file has it, for a cluster that nobody calls."""
    from dagster_k8s.launcher import K8sRunLauncher

    instance = named(overlay, "ConfigMap", "dagster-instance")["data"]["dagster.yaml"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config"
        file.write_text(yaml.safe_dump(NOBODY_S_CLUSTER))
        return K8sRunLauncher(
            **yaml.safe_load(instance)["run_launcher"]["config"],
            load_incluster_config=False,
            kubeconfig_file=str(file),
        )


NOBODY_S_CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
}


def image_of_runs(overlay: str) -> str:
    """DAGSTER_CURRENT_IMAGE of the code location."""
    spec = named(overlay, "Deployment", "code-location")["spec"]["template"]["spec"]
    (found,) = [
        one["value"]
        for one in spec["containers"][0]["env"]
        if one["name"] == "DAGSTER_CURRENT_IMAGE"
    ]
    return str(found)


def run_of(overlay: str) -> Any:
    """A run of the code location that has the overlay's context."""
    import dagster as dg
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

    context = named(overlay, "ConfigMap", "dagster-run-pods")["data"]["DAGSTER_CONTAINER_CONTEXT"]
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("retail_assistant.definitions", "defs"),
        container_image=image_of_runs(overlay),
        container_context=json.loads(context),
    )
    return dg.DagsterRun(
        job_name="__ASSET_JOB", job_code_origin=JobPythonOrigin("__ASSET_JOB", repository)
    )


def pods_of(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template, by what makes it."""
    for one in [*objects_of(overlay), *ray_jobs(overlay)]:
        for where, template in pod_templates(one):
            yield f"{one['kind']} {one['metadata']['name']} {where}", template


def containers_of(template: dict[str, Any]) -> list[dict[str, Any]]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def labels_of(template: dict[str, Any]) -> dict[str, str]:
    return dict(template["metadata"].get("labels", {}))
