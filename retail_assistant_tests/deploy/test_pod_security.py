"""No pod may more than it must: Kubernetes' "restricted" standard, limits, no service links."""

from typing import Any

import pytest

from retail_assistant.launch.spec import Resources
from retail_assistant_tests.deploy.rendered import (
    ALL,
    FETCHED,
    GPU,
    TRAINED,
    containers_of,
    dagster_run,
    labels_of,
    named,
    of_kind,
    pods_of,
    ray_job,
    settings_of,
)

UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
UNITS |= {"Ti": 2**40}
LIMITED = {"cpu", "memory", "ephemeral-storage"}


def quantity(text: str) -> float:
    number = text.rstrip("kmKMGTi")
    return float(number) * UNITS[text[len(number) :]]


@pytest.mark.parametrize("overlay", ALL)
def test_pods_are_restricted(overlay: str) -> None:
    labels = named(overlay, "Namespace", "retail-assistant")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod, template in pods_of(overlay):
        require_restricted(pod, template)


def require_restricted(pod: str, template: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    spec = template["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostAliases"} & spec.keys(), pod
    assert spec["securityContext"]["runAsNonRoot"] is True, pod
    assert spec["securityContext"]["runAsUser"] >= 10_000, pod
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
    assert spec["enableServiceLinks"] is False, pod
    for volume in spec.get("volumes", []):
        assert {"configMap", "csi", "emptyDir"} & volume.keys(), pod
    for container in containers_of(template):
        security = container["securityContext"]
        assert security == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, pod
        assert all("hostPort" not in port for port in container.get("ports", [])), pod
        assert not container["image"].endswith(":latest"), pod
        assert ":" in container["image"], pod


@pytest.mark.parametrize("overlay", ALL)
def test_a_dagster_run_is_restricted_and_may_start_ray_jobs(overlay: str) -> None:
    job = dagster_run(overlay)
    template = job["spec"]["template"]
    require_restricted("Dagster run", template)
    spec = template["spec"]
    assert spec["serviceAccountName"] == "retail-runs"
    (container,) = spec["containers"]
    volumes = [volume["name"] for volume in spec["volumes"]]
    assert len(volumes) == len(set(volumes))
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths))
    # The instance comes along with the run; its home is where it may write.
    assert {"/var/lib/retail-assistant", "/tmp", "/opt/dagster"} <= set(paths)
    assert set(container["resources"]["limits"]) == LIMITED
    sources = [
        one.get("configMapRef", one.get("secretRef"))["name"] for one in container["envFrom"]
    ]
    assert {"retail-assistant-settings", "retail-assistant-databases"} <= set(sources)


@pytest.mark.parametrize("overlay", ALL)
def test_every_container_has_limits_that_its_volumes_fit_in(overlay: str) -> None:
    for pod, template in pods_of(overlay):
        kinds = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for container in containers_of(template):
            resources = container["resources"]
            assert resources["limits"].keys() >= LIMITED, f"{pod} {container['name']}"
            assert resources["requests"].keys() >= LIMITED, f"{pod} {container['name']}"
            for name, asked in resources["requests"].items():
                assert quantity(asked) <= quantity(resources["limits"][name]), pod
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            for name in mounted & {n for n, v in kinds.items() if "emptyDir" in v}:
                folder = kinds[name]["emptyDir"]
                is_memory = folder.get("medium") == "Memory"
                limit = resources["limits"]["memory" if is_memory else "ephemeral-storage"]
                if "sizeLimit" in folder:
                    assert quantity(folder["sizeLimit"]) <= quantity(limit), f"{pod} {name}"


@pytest.mark.parametrize("overlay", ALL)
def test_only_who_calls_kubernetes_has_its_token(overlay: str) -> None:
    for account in of_kind(overlay, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
        google = account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"]
        assert google.endswith("@my-project.iam.gserviceaccount.com")
    for pod, template in pods_of(overlay):
        spec = template["spec"]
        calls = "retail-assistant/reaches-kubernetes" in labels_of(template)
        assert spec["automountServiceAccountToken"] is calls, pod


@pytest.mark.parametrize("overlay", ALL)
def test_permissions_are_those_that_are_needed(overlay: str) -> None:
    for role in of_kind(overlay, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"]
            if "create" in rule["verbs"]:
                assert rule["resources"] in (["jobs"], ["rayjobs"])


@pytest.mark.parametrize("overlay", ALL)
def test_stages_have_identities_of_their_own(overlay: str) -> None:
    accounts = {
        "assistant": "retail-serving",
        "mlflow": "retail-mlflow",
        "code-location": "retail-dagster",
        "dagster-webserver": "retail-dagster",
        "dagster-daemon": "retail-dagster",
        "operations-metrics": "retail-dagster",
    }
    for name, account in accounts.items():
        spec = named(overlay, "Deployment", name)["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == account
    for asset, account in ((FETCHED, "retail-images"), (TRAINED, "retail-training")):
        job = ray_job(overlay, asset, Resources())
        cluster = job["spec"]["rayClusterSpec"]
        pods = [cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]]
        for pod in [*pods, job["spec"]["submitterPodTemplate"]]:
            assert pod["spec"]["serviceAccountName"] == account


@pytest.mark.parametrize("overlay", ALL)
def test_image_fetchers_have_no_secret(overlay: str) -> None:
    for pod, template in pods_of(overlay):
        if FETCHED.replace("_", "-") in pod:
            for container in containers_of(template):
                assert "envFrom" not in container
                assert all("valueFrom" not in one for one in container.get("env", []))
            assert all("csi" not in volume for volume in template["spec"]["volumes"])


@pytest.mark.parametrize("overlay", GPU)
def test_gpu_pods_go_to_gpu_nodes_and_others_do_not(overlay: str) -> None:
    for pod, template in pods_of(overlay):
        spec = template["spec"]
        limits = [container["resources"]["limits"] for container in containers_of(template)]
        wants = any("nvidia.com/gpu" in one for one in limits)
        keys = {toleration["key"] for toleration in spec.get("tolerations", [])}
        chosen = "cloud.google.com/gke-accelerator" in spec.get("nodeSelector", {})
        assert wants == chosen == ("nvidia.com/gpu" in keys), pod


@pytest.mark.parametrize("overlay", GPU)
def test_ray_jobs_fit_the_flavor_that_has_their_gpu(overlay: str) -> None:
    """Kueue takes a flavor whose labels contradict no selector, and whose taints are tolerated."""
    queue = named(overlay, "LocalQueue", "ray-jobs")["spec"]["clusterQueue"]
    first = named(overlay, "ClusterQueue", queue)["spec"]["resourceGroups"][0]["flavors"][0]
    labels = named(overlay, "ResourceFlavor", first["name"])["spec"]["nodeLabels"]
    chosen = dict(one.split("=") for one in settings_of(overlay)["RETAIL_KUBERAY_NODES"].split(","))
    assert chosen.items() <= labels.items()
    count = settings_of(overlay)["RETAIL_DEVICES"].partition(" ")[0]
    gpus = {one["name"]: one["nominalQuota"] for one in first["resources"]}["nvidia.com/gpu"]
    assert int(gpus) >= int(count)
