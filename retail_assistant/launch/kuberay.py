"""The KubeRay launcher: the same spec as a RayJob, a Ray cluster of its own on GPU nodes.

The manifest is built here by a pure function; dagster-ray submits it and waits (defs/resources.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.launch.kuberay_template import filled
from retail_assistant.launch.processes import SECONDS_TO_END
from retail_assistant.launch.ray_job import entrypoint, forwarded_environment, storage_environment
from retail_assistant.launch.spec import LaunchSpec, Resources
from retail_assistant.storage.bucket import bucket_of

SECRET_VARIABLES = (
    "HF_TOKEN",
    "RETAIL_GENERATOR_API_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
"""Keys of the Secret; a key that is missing leaves its variable unset."""

LABEL = "retail-assistant"
HEAD_RESOURCES = {"cpu": "1", "memory": "4Gi"}
RAY_MEMORY_GIB = 2.0
"""What Ray's own processes on a node take, beside the workload."""

OBJECT_STORE_BYTES = 200 * 2**20
SECONDS_TO_START = 30 * 60
SECONDS_KEPT = 300


class Kubernetes(BaseModel):
    """Where on a Kubernetes cluster jobs run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(min_length=1, description="Has this package, and the same Ray and Python.")
    namespace: str = Field(default="default", min_length=1)
    node_selector: dict[str, str] = Field(
        default={}, description="Labels of the nodes with GPUs, such as the GPU's type."
    )
    storage_claim: str = Field(
        default="retail-assistant",
        description="The PersistentVolumeClaim that is the storage folder, on every node; not"
        " needed with a bucket.",
    )
    secret: str = Field(
        default="retail-assistant", description=f"The Secret with {', '.join(SECRET_VARIABLES)}."
    )
    template: dict[str, Any] | None = Field(
        default=None,
        description="A RayJob that a job's needs are laid over (kuberay_template.py): it decides"
        " accounts, security, volumes and secrets; default: as simple as can be.",
    )


def ray_job_manifest(
    spec: LaunchSpec, cluster: Kubernetes, environment: Mapping[str, str], suffix: str
) -> dict[str, Any]:
    """The RayJob (ray.io/v1) that runs a spec; `suffix` tells apart jobs of the same spec.

    `environment` is the launching process's; of it the project's settings without secrets are
    handed on.
    """
    name = f"{spec.name.replace('_', '-')[:24]}-{spec.fingerprint[:8]}-{suffix}"
    variables = forwarded_environment(environment) | {
        **storage_environment(spec),
        "RAY_JOB_STOP_WAIT_TIME_S": str(SECONDS_TO_END + 10),
    }
    minutes = spec.resources.max_runtime_minutes
    manifest: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": _labels(spec),
        },
        "spec": {
            "entrypoint": entrypoint(spec),
            **_entrypoint_resources(spec.resources),
            "runtimeEnvYAML": yaml.safe_dump({"env_vars": variables}, default_style='"'),
            "submissionMode": "K8sJobMode",
            # A job that made room is submitted again by Dagster, which counts.
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": SECONDS_KEPT,
            # The launcher inside ends it in time; this is for where that is gone.
            **({"activeDeadlineSeconds": int(minutes * 60) + SECONDS_TO_START} if minutes else {}),
            "rayClusterSpec": {
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},  # noqa: S104 (a pod's own)
                    "template": _pod(spec, cluster, "head", HEAD_RESOURCES),
                },
                "workerGroupSpecs": [_workers(spec, cluster)],
            },
        },
    }
    return manifest if cluster.template is None else _filled(cluster.template, manifest, cluster)


def _filled(
    template: Mapping[str, Any], manifest: dict[str, Any], cluster: Kubernetes
) -> dict[str, Any]:
    """A template with the job's manifest, and the image of the pod that submits the job."""
    submitter = template.get("spec", {}).get("submitterPodTemplate")
    if submitter:
        containers = [
            {"name": one["name"], "image": cluster.image} for one in submitter["spec"]["containers"]
        ]
        manifest["spec"]["submitterPodTemplate"] = {"spec": {"containers": containers}}
    return filled(template, manifest)


def _mounted(spec: LaunchSpec) -> Path:
    bucket = bucket_of(spec.root)
    return spec.root if bucket is None else bucket.work_folder


def _volume(spec: LaunchSpec, cluster: Kubernetes) -> dict[str, Any]:
    """A folder that all nodes see; of a bucket each pod has a working copy of its own."""
    if bucket_of(spec.root) is None:
        return {"persistentVolumeClaim": {"claimName": cluster.storage_claim}}
    return {"emptyDir": {}}


def _labels(spec: LaunchSpec) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": LABEL,
        f"{LABEL}/asset": spec.name,
        f"{LABEL}/fingerprint": spec.fingerprint,
    }


def _entrypoint_resources(needs: Resources) -> dict[str, Any]:
    """With resources the entry point is placed on the worker; for several it waits on the head."""
    if needs.nodes > 1:
        return {}
    gpus = {"entrypointNumGpus": needs.gpus} if needs.gpus else {}
    return {"entrypointNumCpus": needs.cpus or needs.processes, **gpus}


def _workers(spec: LaunchSpec, cluster: Kubernetes) -> dict[str, Any]:
    needs = spec.resources
    resources = {
        "cpu": str((needs.cpus or needs.processes) + 1),
        "memory": f"{needs.memory_gib + RAY_MEMORY_GIB:g}Gi",
    }
    if needs.gpus:
        resources["nvidia.com/gpu"] = str(needs.gpus)
    pod = _pod(spec, cluster, "worker", resources)
    if needs.gpus:
        pod["spec"]["nodeSelector"] = dict(cluster.node_selector)
        pod["spec"]["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
    return {
        "groupName": "workers",
        "replicas": needs.nodes,
        "minReplicas": needs.nodes,
        "maxReplicas": needs.nodes,
        "rayStartParams": {"object-store-memory": str(OBJECT_STORE_BYTES)},
        "template": pod,
    }


def _pod(
    spec: LaunchSpec, cluster: Kubernetes, container: str, resources: Mapping[str, str]
) -> dict[str, Any]:
    main: dict[str, Any] = {
        "name": container,
        "image": cluster.image,
        # Equal: what is measured does not depend on the neighbours.
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }
    pod: dict[str, Any] = {"containers": [main]}
    if cluster.template is None:
        main |= {
            "env": [_from_secret(name, cluster.secret) for name in SECRET_VARIABLES],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "storage", "mountPath": str(_mounted(spec))},
                # Processes of one training exchange tensors through it.
                {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
            ],
        }
        pod["volumes"] = [
            {"name": "storage", **_volume(spec, cluster)},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ]
    return {"metadata": {"labels": _labels(spec)}, "spec": pod}


def _from_secret(name: str, secret: str) -> dict[str, Any]:
    reference = {"name": secret, "key": name, "optional": True}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}
