"""Every object is what its kind allows, and none of them changes unnoticed."""

import copy
import difflib
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from deploy.kubernetes.manifests import INSTANCE, INSTANCE_SOURCE, checked
from deploy.kubernetes.schemas import problems
from retail_assistant_tests.deploy.rendered import (
    ALL,
    named,
    objects_of,
    ray_jobs,
    text_of,
)


@pytest.mark.parametrize("overlay", ALL)
def test_every_object_is_valid(overlay: str) -> None:
    assert list(checked([*objects_of(overlay), *ray_jobs(overlay)], None)) == []


def test_snapshot(snapshot: SnapshotAssertion) -> None:
    assert text_of("cpu") == snapshot


@pytest.mark.parametrize("overlay", [name for name in ALL if name != "cpu"])
def test_snapshot_of_what_differs(overlay: str, snapshot: SnapshotAssertion) -> None:
    ours, others = text_of(overlay).splitlines(), text_of("cpu").splitlines()
    assert "\n".join(difflib.unified_diff(others, ours, n=1, lineterm="")) == snapshot


def test_no_object_is_there_twice() -> None:
    for overlay in ALL:
        names = [
            (one["apiVersion"].partition("/")[0], one["kind"], one["metadata"]["name"])
            for one in objects_of(overlay)
        ]
        assert len(names) == len(set(names))


def test_the_instance_is_the_package_s() -> None:
    assert INSTANCE.read_bytes() == INSTANCE_SOURCE.read_bytes(), "make manifests copies it"


def mistyped(one: dict[str, Any], *path: Any) -> dict[str, Any]:
    """The object with a field beside the one at the path that no kind knows."""
    spoilt = copy.deepcopy(one)
    place: Any = spoilt
    for step in path:
        place = place[step]
    place["mistyped"] = "1"
    return spoilt


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("Deployment", "assistant", ("spec", "template", "spec")),
        ("NetworkPolicy", "names", ("spec",)),
        ("RayCluster", "ray", ("spec",)),
        ("RayCluster", "ray", ("spec", "headGroupSpec", "template", "spec", "containers", 0)),
        ("RayCluster", "ray", ("spec", "workerGroupSpecs", 0, "template", "spec")),
        ("ClusterQueue", "retail-cpu", ("spec", "resourceGroups", 0)),
        ("HTTPRoute", "assistant", ("spec", "rules", 0)),
        ("GCPBackendPolicy", "mlflow", ("spec", "default", "iap")),
    ],
)
def test_a_mistyped_field_is_refused(kind: str, name: str, path: tuple[Any, ...]) -> None:
    one = named("cpu", kind, name)
    assert problems(one) == []
    assert any("mistyped" in problem for problem in problems(mistyped(one, *path)))


def test_an_unknown_kind_is_refused() -> None:
    unknown = {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "a"}}
    assert "has no Unknown" in problems(unknown)[0]
