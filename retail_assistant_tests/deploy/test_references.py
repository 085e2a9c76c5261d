"""What an object names is there, and is what it is taken for."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from retail_assistant_tests.deploy.rendered import (
    ALL,
    containers_of,
    labels_of,
    named,
    objects_of,
    of_kind,
    pods_of,
    ray_jobs,
)

CLUSTER_ACCOUNTS = {("gmp-system", "collector")}
"""Accounts of the cluster itself."""


def names(overlay: str, kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in of_kind(overlay, kind)}


def secrets_of(overlay: str) -> dict[str, set[str]]:
    """The Secrets that the CSI driver makes, with their keys."""
    return {
        made["secretName"]: {entry["key"] for entry in made["data"]}
        for one in of_kind(overlay, "SecretProviderClass")
        for made in one["spec"]["secretObjects"]
    }


def selected(overlay: str, selector: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        template
        for _, template in pods_of(overlay)
        if selector.items() <= labels_of(template).items()
    ]


def ports_of(template: Mapping[str, Any]) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }


@pytest.mark.parametrize("overlay", ALL)
def test_services_lead_to_ports_of_pods(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        spec = service["spec"]
        assert spec["type"] == "ClusterIP"
        pods = selected(overlay, spec["selector"])
        assert len(pods) == 1, service["metadata"]["name"]
        for port in spec["ports"]:
            assert port["targetPort"] in ports_of(pods[0])


def references(template: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None, bool]]:
    """Kind, name, key (None: all of it) and whether it may be missing."""
    spec = template["spec"]
    yield "ServiceAccount", spec["serviceAccountName"], None, False
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None, False
        if volume.get("csi", {}).get("driver") == "secrets-store.csi.k8s.io":
            wanted = volume["csi"]["volumeAttributes"]["secretProviderClass"]
            yield "SecretProviderClass", wanted, None, False
        assert not {"hostPath", "persistentVolumeClaim", "secret"} & volume.keys()
    for container in containers_of(template):
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    may_miss = source[field].get("optional", False)
                    yield kind, source[field]["name"], None, may_miss
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield "Secret", reference["name"], reference["key"], False


@pytest.mark.parametrize("overlay", ALL)
def test_what_pods_refer_to_is_there(overlay: str) -> None:
    secrets = secrets_of(overlay)
    for pod, template in pods_of(overlay):
        for kind, name, key, may_miss in references(template):
            if kind == "Secret":
                assert may_miss or name in secrets, f"{pod}: Secret {name}"
                assert key is None or key in secrets[name], f"{pod}: {name}.{key}"
            else:
                assert name in names(overlay, kind), f"{pod}: {kind} {name}"


@pytest.mark.parametrize("overlay", ALL)
def test_volumes_are_mounted_and_mounts_have_volumes(overlay: str) -> None:
    for pod, template in pods_of(overlay):
        volumes = [volume["name"] for volume in template["spec"].get("volumes", [])]
        mounted = {
            mount["name"]
            for container in containers_of(template)
            for mount in container.get("volumeMounts", [])
        }
        assert len(volumes) == len(set(volumes)), pod
        assert mounted == set(volumes), pod


@pytest.mark.parametrize("overlay", ALL)
def test_secret_classes_name_each_secret_of_theirs(overlay: str) -> None:
    for one in of_kind(overlay, "SecretProviderClass"):
        listed = yaml.safe_load(one["spec"]["parameters"]["secrets"])
        assert all(
            entry["resourceName"].startswith("projects/my-project/secrets/") for entry in listed
        )
        paths = {entry["path"] for entry in listed}
        made = {entry["objectName"] for o in one["spec"]["secretObjects"] for entry in o["data"]}
        assert made == paths


@pytest.mark.parametrize("overlay", ALL)
def test_every_secret_is_made_by_a_pod_that_always_runs(overlay: str) -> None:
    mounted = {
        volume["csi"]["volumeAttributes"]["secretProviderClass"]
        for one in of_kind(overlay, "Deployment")
        for volume in one["spec"]["template"]["spec"]["volumes"]
        if "csi" in volume
    }
    head = named(overlay, "RayCluster", "ray")["spec"]["headGroupSpec"]["template"]
    mounted |= {
        volume["csi"]["volumeAttributes"]["secretProviderClass"]
        for volume in head["spec"]["volumes"]
        if "csi" in volume
    }
    assert mounted == names(overlay, "SecretProviderClass")


@pytest.mark.parametrize("overlay", ALL)
def test_permissions_are_bound_to_accounts_that_are_there(overlay: str) -> None:
    bound = set()
    for binding in of_kind(overlay, "RoleBinding"):
        bound.add(binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            if (subject["namespace"], subject["name"]) not in CLUSTER_ACCOUNTS:
                assert subject["namespace"] == "retail-assistant"
                assert subject["name"] in names(overlay, "ServiceAccount")
    assert bound == names(overlay, "Role")
    assert not of_kind(overlay, "ClusterRole", "ClusterRoleBinding")


@pytest.mark.parametrize("overlay", ALL)
def test_what_scales_watches_and_disrupts_the_assistant_finds_it(overlay: str) -> None:
    (scaler,) = of_kind(overlay, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    assert named(overlay, target["kind"], target["name"])["spec"].get("replicas") is None
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert len(selected(overlay, budget["spec"]["selector"]["matchLabels"])) == 1
    watched = named(overlay, "PodMonitoring", "assistant")["spec"]
    (pod,) = selected(overlay, watched["selector"]["matchLabels"])
    (endpoint,) = watched["endpoints"]
    assert endpoint["port"] in ports_of(pod)
    wanted = endpoint["authorization"]["credentials"]["secret"]
    assert wanted["key"] in secrets_of(overlay)[wanted["name"]]
    (rule,) = named(overlay, "Role", "read-metrics-key")["rules"]
    assert rule["resourceNames"] == [wanted["name"]]


@pytest.mark.parametrize("overlay", ALL)
def test_what_is_watched_has_the_port_that_is_read(overlay: str) -> None:
    for one in of_kind(overlay, "PodMonitoring"):
        (endpoint,) = one["spec"]["endpoints"]
        for pod in selected(overlay, one["spec"]["selector"].get("matchLabels", {})):
            if isinstance(endpoint["port"], str):
                assert endpoint["port"] in ports_of(pod), one["metadata"]["name"]


@pytest.mark.parametrize("overlay", ALL)
def test_every_ray_pod_shows_its_metrics_where_they_are_read(overlay: str) -> None:
    (endpoint,) = named(overlay, "PodMonitoring", "ray")["spec"]["endpoints"]
    clusters = [one["spec"] for one in of_kind(overlay, "RayCluster")]
    clusters += [one["spec"]["rayClusterSpec"] for one in ray_jobs(overlay)]
    for cluster in clusters:
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            assert group["rayStartParams"]["metrics-export-port"] == str(endpoint["port"])
            assert ports_of(group["template"])["metrics"] == endpoint["port"]


@pytest.mark.parametrize("overlay", ALL)
def test_queues_lead_to_flavors(overlay: str) -> None:
    queues = {
        one["metadata"]["name"]: one["spec"]["clusterQueue"]
        for one in of_kind(overlay, "LocalQueue")
    }
    assert set(queues.values()) <= names(overlay, "ClusterQueue")
    for job in ray_jobs(overlay):
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] in queues
    for queue in of_kind(overlay, "ClusterQueue"):
        for group in queue["spec"]["resourceGroups"]:
            for flavor in group["flavors"]:
                assert flavor["name"] in names(overlay, "ResourceFlavor")
                resources = [resource["name"] for resource in flavor["resources"]]
                assert resources == group["coveredResources"]
        checks = queue["spec"].get("admissionChecksStrategy", {}).get("admissionChecks", [])
        for check in checks:
            parameters = named(overlay, "AdmissionCheck", check["name"])["spec"]["parameters"]
            assert parameters["name"] in names(overlay, parameters["kind"])


@pytest.mark.parametrize("overlay", ALL)
def test_a_ray_job_asks_for_nothing_that_its_queue_does_not_cover(overlay: str) -> None:
    queue = named(
        overlay, "ClusterQueue", named(overlay, "LocalQueue", "ray-jobs")["spec"]["clusterQueue"]
    )
    covered = set(queue["spec"]["resourceGroups"][0]["coveredResources"])
    for pod, template in pods_of(overlay):
        if pod.startswith("RayJob"):
            for container in containers_of(template):
                assert container["resources"]["requests"].keys() <= covered, pod


def test_nothing_is_rendered_with_a_name_that_was_to_be_filled_in() -> None:
    placeholders = ("PROJECT", "_BUCKET", "_HOST", "_RANGE", "ACCELERATOR", "POOL", "IAP_CLIENT_ID")
    for overlay in ALL:
        for one in objects_of(overlay):
            if one["kind"] == "ConfigMap" and one["metadata"]["name"] in ("dagster-instance",):
                continue  # names of variables
            values = list(leaves(one))
            left = [v for v in values if any(word in v for word in placeholders)]
            assert left == [], f"{overlay} {one['kind']} {one['metadata']['name']}"


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str):
        yield value
