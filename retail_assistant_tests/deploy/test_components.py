"""What an installation may take in beside an overlay: valid, restricted, within the network."""

import re
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.kubernetes.manifests import FOLDER, checked, objects, render
from deploy.kubernetes.schemas import pod_templates
from retail_assistant_tests.deploy.network import Address, Network, Pod
from retail_assistant_tests.deploy.rendered import labels_of, objects_of
from retail_assistant_tests.deploy.test_network import PUBLIC, RUN
from retail_assistant_tests.deploy.test_pod_security import require_restricted
from retail_assistant_tests.deploy.test_references import ports_of

BEFORE, AFTER = ("keys", "traces"), ("model-by-fuse",)
COLLECTOR = "opentelemetry-collector"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The overlay `cpu` with all of them, as its kustomization would list them."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "overlays" / "cpu" / "kustomization.yaml"
    listed = yaml.safe_load(path.read_text())
    place = listed["components"].index("../../installation")
    listed["components"][place:place] = [f"../../components/{name}" for name in BEFORE]
    listed["components"] += [f"../../components/{name}" for name in AFTER]
    path.write_text(yaml.safe_dump(listed))
    return objects(render(path.parent))


def one(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object; generated ConfigMaps have a hash in their names."""
    (match,) = [
        entry
        for entry in found
        if entry["kind"] == kind
        and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", entry["metadata"]["name"])
    ]
    return match


def pods_of(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in found:
        for _, template in pod_templates(entry):
            yield f"{entry['kind']} {entry['metadata']['name']}", template


def test_every_component_is_listed() -> None:
    there = {path.parent.name for path in FOLDER.glob("components/*/kustomization.yaml")}
    assert there == {*BEFORE, *AFTER, "cpu", "gpu"}


def test_all_is_valid_and_restricted(found: list[dict[str, Any]]) -> None:
    assert len(found) > len(objects_of("cpu"))
    assert list(checked(found, None)) == []
    for pod, template in pods_of(found):
        require_restricted(pod, template)
    accounts = {entry["metadata"]["name"] for entry in found if entry["kind"] == "ServiceAccount"}
    assert {template["spec"]["serviceAccountName"] for _, template in pods_of(found)} <= accounts


def test_traces_are_sent_to_the_collector(found: list[dict[str, Any]]) -> None:
    settings = one(found, "ConfigMap", "retail-assistant-settings")["data"]
    address = urlsplit(settings["OTEL_EXPORTER_OTLP_ENDPOINT"])
    service = one(found, "Service", str(address.hostname))["spec"]
    (port,) = service["ports"]
    assert (address.scheme, address.port) == ("http", port["port"])
    deployment = one(found, "Deployment", COLLECTOR)["spec"]["template"]
    assert service["selector"].items() <= labels_of(deployment).items()
    assert ports_of(deployment)[port["targetPort"]] == port["port"]
    config = yaml.safe_load(one(found, "ConfigMap", COLLECTOR)["data"]["collector-config.yaml"])
    listens = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert listens.endswith(f":{port['port']}")
    for name, pipeline in config["service"]["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind]), f"{name} {kind}"


def test_who_works_reaches_the_collector_and_image_fetchers_do_not(
    found: list[dict[str, Any]],
) -> None:
    network = Network(found)
    collector = Pod(labels_of(one(found, "Deployment", COLLECTOR)["spec"]["template"]))
    assistant = Pod(labels_of(one(found, "Deployment", "assistant")["spec"]["template"]))
    trainer = Pod({"retail-assistant/network": "training"})
    for pod in (RUN, assistant, trainer):
        assert network.connects(pod, collector, 4318)
        assert not network.connects(pod, collector, 13133)
    fetcher = Pod({"retail-assistant/network": "images"})
    assert not network.may_send(fetcher, collector, 4318)
    assert not network.may_receive(collector, fetcher, 4318)
    for stranger in (PUBLIC, Pod({}, "default")):
        assert not network.may_receive(collector, stranger, 4318)
    assert network.may_send(collector, PUBLIC, 443)
    assert not network.may_send(collector, Address("10.40.0.3"), 5432)
