"""A RayJob's template: what the job needs is laid over what the cluster decides."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.defs.resources import kubernetes_of
from retail_assistant.launch.kuberay import Kubernetes, ray_job_manifest
from retail_assistant.launch.kuberay_template import TemplateError, filled, read_template
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Resources
from retail_assistant.settings import Settings

TEMPLATE = """
apiVersion: ray.io/v1
kind: RayJob
metadata: {name: template, labels: {queue: gpus}}
spec:
  submitterPodTemplate: {spec: {containers: [{name: submitter}]}}
  rayClusterSpec:
    headGroupSpec: {template: {spec: {serviceAccountName: trainer, containers: [{name: head}]}}}
    workerGroupSpecs:
      - groupName: workers
        maxReplicas: 9
        template:
          spec:
            serviceAccountName: trainer
            tolerations: [{key: spot, operator: Exists}]
            containers:
              - name: worker
                resources: {limits: {memory: 1Gi, ephemeral-storage: 9Gi}}
"""


def job(template: str, needs: Resources) -> dict:
    spec = LaunchSpec(
        name="adapter",
        module="m",
        config={},
        inputs={},
        code_version="1",
        root=Path("/storage"),
        resources=needs,
    )
    cluster = Kubernetes(
        image="registry.example.com/gpu:1",
        node_selector={"gpu": "h100"},
        template=yaml.safe_load(template),
    )
    return ray_job_manifest(spec, cluster, {}, suffix="abc123")


def test_the_job_s_needs_win_and_the_cluster_s_choices_stay() -> None:
    made = job(TEMPLATE, Resources(gpus=2, nodes=2, memory_gib=40))
    assert made["metadata"]["labels"]["queue"] == "gpus"
    assert made["metadata"]["name"].startswith("adapter-")
    (workers,) = made["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["maxReplicas"] == 2
    pod = workers["template"]["spec"]
    assert pod["serviceAccountName"] == "trainer"
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert [one["key"] for one in pod["tolerations"]] == ["spot", "nvidia.com/gpu"]
    (container,) = pod["containers"]
    limits = container["resources"]["limits"]
    assert limits == {
        "memory": "42Gi",
        "ephemeral-storage": "9Gi",
        "cpu": "2",
        "nvidia.com/gpu": "2",
    }
    assert "env" not in container, "which secrets a job gets is the template's choice"
    (submitter,) = made["spec"]["submitterPodTemplate"]["spec"]["containers"]
    assert submitter["image"] == container["image"] == "registry.example.com/gpu:1"


def test_work_without_a_gpu_goes_to_any_node() -> None:
    (workers,) = job(TEMPLATE, Resources())["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "nodeSelector" not in workers["template"]["spec"]


def test_an_asset_has_its_own_template_or_the_default(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(TEMPLATE)
    (tmp_path / "product_images.yaml").write_text(TEMPLATE.replace("trainer", "fetcher"))
    assert "trainer" in str(read_template(tmp_path, "adapter"))
    assert "fetcher" in str(read_template(tmp_path, "product_images"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"default.yaml cannot be read .*allowed: a folder with default.yaml"),
        ("kind: Pod", "kind is Pod; allowed: RayJob"),
        ("- a list", "kind is None; allowed: RayJob"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "default.yaml").write_text(text)
    with pytest.raises(TemplateError, match=words):
        read_template(tmp_path, "adapter")
    settings = Settings(
        launcher="kuberay", kuberay_image="registry.example.com/gpu:1", kuberay_templates=tmp_path
    )
    with pytest.raises(LaunchError, match=words):
        kubernetes_of(settings, "adapter")


NAMES = st.sampled_from("abcd")
TREES = st.recursive(
    st.integers(),
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3),
        st.lists(
            st.builds(
                lambda name, rest: {**rest, "name": name},
                NAMES,
                st.dictionaries(NAMES, inner, max_size=2),
            ),
            unique_by=lambda one: one["name"],
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, TREES), st.dictionaries(NAMES, TREES))
def test_nothing_of_the_job_is_lost(template: dict, manifest: dict) -> None:
    def holds(there: object, wanted: object) -> bool:
        if isinstance(wanted, dict):
            return isinstance(there, dict) and all(
                key in there and holds(there[key], value) for key, value in wanted.items()
            )
        if isinstance(wanted, list) and wanted:
            return isinstance(there, list) and all(
                any(holds(one, item) for one in there) for item in wanted
            )
        return wanted in ([], {}) or there == wanted

    before = str(template), str(manifest)
    assert holds(filled(template, manifest), manifest)
    assert (str(template), str(manifest)) == before
