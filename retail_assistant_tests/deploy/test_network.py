"""Who reaches whom: image fetchers no private address, nobody from outside without the proxy."""

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retail_assistant_tests.deploy.network import Address, Network, Pod
from retail_assistant_tests.deploy.rendered import (
    ALL,
    FETCHED,
    TRAINED,
    labels_of,
    named,
    objects_of,
    of_kind,
    pods_of,
)

BOTH = [ip_network("192.0.0.0/24"), ip_network("192.88.99.0/24")]
PUBLIC = Address("93.184.215.14")
BALANCER = Address("35.191.0.9")
METADATA = Address("169.254.169.254")
DATABASE = Address("10.40.0.3")
PRIVATE = (
    "10.0.0.7",
    "10.40.0.3",
    "100.64.1.1",
    "172.16.0.2",
    "192.168.1.1",
    "127.0.0.1",
    "240.1.1.1",
)
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
COLLECTOR = Pod({}, "gmp-system")
OPERATOR = Pod({"app.kubernetes.io/name": "kuberay-operator"}, "ray-system")
STRANGER = Pod({"retail-assistant/reaches-ray": "true"}, "default")
INSIDE = {"code-location": 4000, "dagster-webserver": 3000, "mlflow": 5000, "assistant": 8000}
RUN = Pod(
    {
        f"retail-assistant/reaches-{what}": "true"
        for what in ("google", "kubernetes", "mlflow", "ray")
    }
)


def pods(overlay: str, word: str) -> Iterator[Pod]:
    """The pods whose maker's name has the word."""
    found = [Pod(labels_of(template)) for name, template in pods_of(overlay) if word in name]
    assert found, word
    yield from found


@pytest.fixture(params=ALL)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(overlay: str) -> Network:
    return Network(objects_of(overlay))


def test_every_pod_resolves_names_and_asks_who_it_is(overlay: str, network: Network) -> None:
    for name, template in pods_of(overlay):
        pod = Pod(labels_of(template))
        assert network.may_send(pod, DNS, 53, "UDP"), name
        assert network.may_send(pod, METADATA, 80), name
        assert not network.may_send(pod, METADATA, 8080), name


def test_image_fetchers_reach_the_internet_and_nothing_private(
    overlay: str, network: Network
) -> None:
    for fetcher in pods(overlay, FETCHED.replace("_", "-")):
        assert network.may_send(fetcher, PUBLIC, 80)
        assert network.may_send(fetcher, PUBLIC, 443)
        assert not network.may_send(fetcher, PUBLIC, 22)
        for address in PRIVATE:
            for port in (80, 443, 5432, 8265):
                assert not network.may_send(fetcher, Address(address), port)
        for name, port in INSIDE.items():
            for other in pods(overlay, f"Deployment {name}"):
                assert not network.may_send(fetcher, other, port)
        for other in pods(overlay, "RayCluster ray"):
            assert not network.may_send(fetcher, other, 8265)
            assert not network.may_receive(fetcher, other, 8265)


@given(st.ip_addresses(v=4))
def test_fetchers_reach_the_addresses_that_are_public(address: IPv4Address) -> None:
    """All that Python calls public, none of the others, but for networks that are a bit of both."""
    assume(not any(address in network for network in BOTH))
    network = Network(objects_of("cpu"))
    fetcher = Pod({"retail-assistant/network": "images"})
    public = address.is_global and not address.is_multicast
    assert network.may_send(fetcher, Address(str(address)), 443) is public


def test_ray_s_pods_of_a_network_talk_to_each_other_only(overlay: str, network: Network) -> None:
    training = [*pods(overlay, TRAINED), *pods(overlay, "RayCluster ray")]
    fetching = list(pods(overlay, FETCHED.replace("_", "-")))
    for one in training:
        assert all(network.connects(one, other, 6379) for other in training)
        assert not any(network.may_send(one, other, 6379) for other in fetching)
    for one in fetching:
        assert all(network.connects(one, other, 6379) for other in fetching)


def test_ray_is_reached_by_runs_its_operator_and_collectors(overlay: str, network: Network) -> None:
    for head in [*pods(overlay, TRAINED), *pods(overlay, "RayCluster ray")]:
        assert network.connects(RUN, head, 8265)
        assert network.may_receive(head, OPERATOR, 8265)
        assert network.may_receive(head, COLLECTOR, 8080)
        assert not network.may_receive(head, RUN, 10001)
        assert not network.may_receive(head, COLLECTOR, 8265)
        for other in (PUBLIC, BALANCER, STRANGER, Pod({}, "default")):
            assert not network.may_receive(head, other, 8265)


def test_dagster_and_mlflow_are_reached_by_the_balancer_and_by_who_needs_them(
    overlay: str, network: Network
) -> None:
    (webserver,) = pods(overlay, "Deployment dagster-webserver")
    (location,) = pods(overlay, "Deployment code-location")
    (daemon,) = pods(overlay, "Deployment dagster-daemon")
    (mlflow,) = pods(overlay, "Deployment mlflow")
    (assistant,) = pods(overlay, "Deployment assistant")
    assert network.may_receive(webserver, BALANCER, 3000)
    assert network.may_receive(mlflow, BALANCER, 5000)
    assert network.connects(webserver, location, 4000)
    assert network.connects(daemon, location, 4000)
    assert network.connects(RUN, mlflow, 5000)
    for trainer in pods(overlay, TRAINED):
        assert not network.connects(trainer, webserver, 3000)
    assert all(
        network.connects(one, mlflow, 5000)
        for one in pods(overlay, f"RayJob {TRAINED}")
        if "retail-assistant/reaches-mlflow" in one.labels
    )
    for target, port in ((webserver, 3000), (location, 4000), (mlflow, 5000), (daemon, 3000)):
        for other in (PUBLIC, STRANGER, assistant):
            assert not network.may_receive(target, other, port)
    assert not network.may_receive(location, BALANCER, 4000)


def test_the_assistant_reaches_google_and_its_database(overlay: str, network: Network) -> None:
    (assistant,) = pods(overlay, "Deployment assistant")
    assert network.may_receive(assistant, BALANCER, 8000)
    assert network.may_receive(assistant, COLLECTOR, 8000)
    assert not network.may_receive(assistant, STRANGER, 8000)
    assert network.may_send(assistant, PUBLIC, 443)
    assert not any(network.may_send(assistant, Address(one), 443) for one in PRIVATE)
    assert network.may_send(assistant, DATABASE, 5432)
    for name, port in INSIDE.items():
        for other in pods(overlay, f"Deployment {name}"):
            assert not network.connects(assistant, other, port), name


def test_metrics_are_read_by_collectors_only(overlay: str, network: Network) -> None:
    (exporter,) = pods(overlay, "Deployment operations-metrics")
    assert network.may_receive(exporter, COLLECTOR, 9464)
    (assistant,) = pods(overlay, "Deployment assistant")
    for other in (PUBLIC, BALANCER, STRANGER, assistant, RUN):
        assert not network.may_receive(exporter, other, 9464)


def test_databases_and_kubernetes_are_reached_by_those_that_say_so(
    overlay: str, network: Network
) -> None:
    for name, template in pods_of(overlay):
        pod = Pod(labels_of(template))
        database = network.may_send(pod, DATABASE, 5432)
        kubernetes = network.may_send(pod, Address("172.16.0.2"), 443)
        assert database is ("retail-assistant/reaches-database" in pod.labels), name
        assert kubernetes is ("retail-assistant/reaches-kubernetes" in pod.labels), name


def test_nothing_is_open_to_the_world_without_a_policy_in_front(overlay: str) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]["default"]
        for one in of_kind(overlay, "GCPBackendPolicy")
    }
    targets = {
        one["metadata"]["name"]: one["spec"]["targetRef"]["name"]
        for one in of_kind(overlay, "GCPBackendPolicy")
    }
    assert all(name == target for name, target in targets.items())
    routed = set()
    for route in of_kind(overlay, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                routed.add(backend["name"])
                service = named(overlay, "Service", backend["name"])
                assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert routed == set(policies) == {"assistant", "dagster-webserver", "mlflow"}
    for name in ("dagster-webserver", "mlflow"):
        assert policies[name]["iap"]["enabled"] is True
    assert policies["assistant"]["securityPolicy"]
    assert not of_kind(overlay, "Ingress")
    hosts = [
        host
        for route in of_kind(overlay, "HTTPRoute")
        for host in route["spec"].get("hostnames", [])
    ]
    assert len(hosts) == len(set(hosts)) == 3


def test_strangers_reach_no_path_of_the_assistant_but_shoppers(overlay: str) -> None:
    (rule,) = named(overlay, "HTTPRoute", "assistant")["spec"]["rules"]
    matches = [match["path"] for match in rule["matches"]]

    def leads(path: str) -> bool:
        return any(
            path == one["value"]
            or (one["type"] == "PathPrefix" and path.startswith(f"{one['value']}/"))
            for one in matches
        )

    assert all(
        map(leads, ("/", "/chat", "/chat/static/page.js", "/v1/chat/completions", "/pictures/1"))
    )
    assert not any(map(leads, ("/metrics", "/ready", "/health", "/chats", "/docs")))


def test_balancers_ask_each_service_whether_it_is_well(overlay: str) -> None:
    for policy in of_kind(overlay, "HealthCheckPolicy"):
        check = policy["spec"]["default"]["config"]["httpHealthCheck"]
        name = policy["spec"]["targetRef"]["name"]
        (container,) = named(overlay, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert check["requestPath"] == container["readinessProbe"]["httpGet"]["path"]
        assert check["port"] == container["ports"][0]["containerPort"] == INSIDE[name]
