"""What NetworkPolicies allow, worked out as Kubernetes does: the union of what each allows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

OWN = "retail-assistant"


@dataclass(frozen=True)
class Pod:
    """An end of a connection: a pod of some namespace."""

    labels: Mapping[str, str]
    namespace: str = OWN


@dataclass(frozen=True)
class Address:
    """An end of a connection: an address outside of the cluster's pods."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


End = Pod | Address


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects all."""
    wanted = selector.get("matchLabels", {})
    return wanted.items() <= labels.items() and all(
        _fits(one, labels) for one in selector.get("matchExpressions", [])
    )


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    there = expression["key"] in labels
    if expression["operator"] == "Exists":
        return there
    among = there and labels[expression["key"]] in expression["values"]
    assert expression["operator"] in ("In", "NotIn")
    return among if expression["operator"] == "In" else not among


def _is_peer(peer: Mapping[str, Any], other: End) -> bool:
    if "ipBlock" in peer:
        if isinstance(other, Pod):
            return False
        address, block = ip_address(other.address), peer["ipBlock"]
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(cut) for cut in block.get("except", [])
        )
    if not isinstance(other, Pod):
        return False
    if "namespaceSelector" in peer:
        namespace = {"kubernetes.io/metadata.name": other.namespace}
        if not matches(peer["namespaceSelector"], namespace):
            return False
    elif other.namespace != OWN:
        return False
    return matches(peer.get("podSelector", {}), other.labels)


def _allows(
    rules: Sequence[Mapping[str, Any]], side: str, other: End, port: int, protocol: str
) -> bool:
    return any(
        any(_is_peer(peer, other) for peer in rule[side])
        and (
            "ports" not in rule
            or any(
                one["port"] == port and one.get("protocol", "TCP") == protocol
                for one in rule["ports"]
            )
        )
        for rule in rules
    )


class Network:
    """The namespace's policies."""

    def __init__(self, objects: Sequence[Mapping[str, Any]]) -> None:
        self._policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]

    def _of(self, pod: Pod, direction: str) -> Iterator[Mapping[str, Any]]:
        for policy in self._policies:
            if direction in policy["policyTypes"] and matches(policy["podSelector"], pod.labels):
                yield policy

    def may_send(self, pod: Pod, other: End, port: int, protocol: str = "TCP") -> bool:
        """Whether a pod of the namespace may open a connection."""
        policies = list(self._of(pod, "Egress"))
        return not policies or any(
            _allows(policy.get("egress", []), "to", other, port, protocol) for policy in policies
        )

    def may_receive(self, pod: Pod, other: End, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection to a pod of the namespace is let in."""
        policies = list(self._of(pod, "Ingress"))
        return not policies or any(
            _allows(policy.get("ingress", []), "from", other, port, protocol) for policy in policies
        )

    def connects(self, pod: Pod, other: Pod, port: int) -> bool:
        """Whether both ends allow it."""
        return self.may_send(pod, other, port) and self.may_receive(other, pod, port)
