"""The Terraform files, without Terraform: they parse, refer to what is there, take what Google's
provider takes, are formatted, and open nothing to the public.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.deploy.terraform import (
    FILES,
    FOLDER,
    Block,
    arguments,
    blocks,
    code,
    configuration,
    nested,
    within,
)

SCHEMA = json.loads((Path(__file__).parent / "google_schema.json").read_text())
META = {"count", "depends_on", "for_each", "lifecycle", "provider"}
OPENING, CLOSING = "{[(", "}])"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_ASSIGNED = re.compile(r"^(\s*)([A-Za-z_][\w-]*|\"[^\"]*\")(\s*)= (?=\S)")


@pytest.fixture(scope="module")
def found() -> list[Block]:
    return list(blocks(configuration()))


def named(found: list[Block], kind: str) -> dict[str, dict[str, Any]]:
    return {".".join(labels): body for one, labels, body in found if one == kind}


def locals_of(found: list[Block]) -> dict[str, Any]:
    values = [arguments(body) for kind, _, body in found if kind == "locals"]
    names = [name for value in values for name in value]
    assert len(names) == len(set(names)), "a local is defined twice"
    return {name: one for value in values for name, one in value.items()}


def test_every_reference_leads_somewhere(found: list[Block]) -> None:
    text = code()
    has = {
        "var": set(named(found, "variable")),
        "local": set(locals_of(found)),
    }
    for kind, names in has.items():
        assert set(re.findall(rf"\b{kind}\.(\w+)", text)) == names, f"{kind}: unknown or unused"
    for kind, prefix in (
        ("resource", r"(?<![\w.])"),
        ("data", r"\bdata\."),
        ("ephemeral", r"\bephemeral\."),
    ):
        referred = set(re.findall(prefix + r"((?:google|random)_\w+\.\w+)", text))
        assert referred <= set(named(found, kind)), kind


def test_names_are_unique(found: list[Block]) -> None:
    names = [(kind, *labels) for kind, labels, _ in found if labels]
    assert len(names) == len(set(names))


def test_variables_and_outputs_say_what_they_are(found: list[Block]) -> None:
    for name, body in named(found, "variable").items():
        assert {"description", "type"} <= set(body), name
        assert body.get("type") in ("bool",) or body.get("validation") or name == "cpu_pool", name
    for name, body in named(found, "output").items():
        assert "description" in body, name


def test_the_example_gives_what_has_no_default(found: list[Block]) -> None:
    given = set(re.findall(r"^(\w+)\s*=", (FOLDER / "terraform.tfvars.example").read_text(), re.M))
    variables = named(found, "variable")
    needed = {name for name, body in variables.items() if "default" not in body}
    assert needed <= given <= set(variables)


def complaints(body: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    """What a block sets that the provider does not know, and lacks that it wants."""
    inside = list(nested(body))
    for name in set(arguments(body)) - META - set(schema["arguments"]):
        yield f"{place}: no argument {name}"
    for name, required in schema["arguments"].items():
        if required and name not in body:
            yield f"{place}: {name} is missing"
    for name, description in schema["blocks"].items():
        if description["required"] and name not in {one for one, _, _ in inside}:
            yield f"{place}: the block {name} is missing"
    for name, inner, _ in inside:
        if name in META:
            continue
        if name not in schema["blocks"]:
            yield f"{place}: no block {name}"
        else:
            yield from complaints(inner, schema["blocks"][name], f"{place}.{name}")


def test_the_provider_takes_every_argument(found: list[Block]) -> None:
    wrong = []
    for kind in ("resource", "data"):
        for name, body in named(found, kind).items():
            key = f"{kind}.{name.partition('.')[0]}"
            assert key in SCHEMA, f"{key}: run retail_assistant_tests.deploy.write_schema"
            wrong += complaints(body, SCHEMA[key], name)
    assert not wrong


def test_a_wrong_argument_would_be_found(found: list[Block]) -> None:
    bucket = named(found, "resource")["google_storage_bucket.this"]
    schema = SCHEMA["resource.google_storage_bucket"]
    assert not list(complaints(bucket, schema, "bucket"))
    broken = {name: value for name, value in bucket.items() if name != "location"}
    broken["public_acces_prevention"] = "enforced"
    assert sorted(complaints(broken, schema, "bucket")) == [
        "bucket: location is missing",
        "bucket: no argument public_acces_prevention",
    ]


def test_nothing_is_public(found: list[Block]) -> None:
    assert not re.search(r'"all(Authenticated)?Users"', code())
    resources = named(found, "resource")
    bucket = resources["google_storage_bucket.this"]
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["uniform_bucket_level_access"] is True
    database = resources["google_sql_database_instance.this"]
    address = within(database, "settings", "ip_configuration")
    assert (address["ipv4_enabled"], address["ssl_mode"]) == (False, "ENCRYPTED_ONLY")
    assert "authorized_networks" not in address
    private = within(resources["google_container_cluster.this"], "private_cluster_config")
    assert private["enable_private_nodes"] is private["enable_private_endpoint"] is True
    assert not [name for name in resources if name.startswith("google_compute_firewall")]


def test_identities_have_no_broad_role_and_no_key(found: list[Block]) -> None:
    text = code()
    assert not re.search(r"roles/(owner|editor|viewer)\b|\.admin\b|Admin\b", text)
    assert "google_service_account_key" not in text
    resources = named(found, "resource")
    of_project = {
        name: body["role"]
        for name, body in resources.items()
        if name.startswith("google_project_iam_member")
    }
    # What a stage may do is granted on the bucket, the folder, the secret; not on the project.
    assert of_project == {
        "google_project_iam_member.build_logs": "roles/logging.logWriter",
        "google_project_iam_member.build_sources": "roles/storage.objectViewer",
        "google_project_iam_member.cluster_user": "roles/container.clusterViewer",
        "google_project_iam_member.generator": "roles/aiplatform.user",
        "google_project_iam_member.metrics_adapter": "roles/monitoring.viewer",
        "google_project_iam_member.nodes": "roles/container.defaultNodeServiceAccount",
        "google_project_iam_member.traces": "roles/cloudtrace.agent",
    }
    assert "condition" in resources["google_project_iam_member.build_sources"]
    grants = locals_of(found)["bucket_grants"]
    writers = [one for one in grants if "objectViewer" not in str(grants[one])]
    assert [one.strip('"') for one in writers] == ["retail-dagster writes storage"]


def test_no_value_of_a_secret_reaches_the_state(found: list[Block]) -> None:
    resources = named(found, "resource")
    versions = {n: b for n, b in resources.items() if "secret_manager_secret_version" in n}
    assert versions
    for name, body in versions.items():
        assert {"secret_data_wo", "secret_data_wo_version"} <= set(body), name
        assert "secret_data" not in body, name
    assert "password" not in resources["google_sql_user.this"]
    assert not [name for name in resources if name.startswith("random_")], "ephemeral ones only"


def test_what_is_lost_can_be_brought_back(found: list[Block]) -> None:
    resources = named(found, "resource")
    bucket = resources["google_storage_bucket.this"]
    assert within(bucket, "versioning")["enabled"] is True
    assert within(bucket, "soft_delete_policy")["retention_duration_seconds"] == 604800
    database = resources["google_sql_database_instance.this"]
    backup = within(database, "settings", "backup_configuration")
    assert backup["enabled"] is backup["point_in_time_recovery_enabled"] is True


def test_gpu_pools_begin_at_zero(found: list[Block]) -> None:
    pool = named(found, "resource")["google_container_node_pool.gpu"]
    assert pool["initial_node_count"] == 0
    assert within(pool, "autoscaling")["total_min_node_count"] == 0
    pools = named(found, "variable")["gpu_pools"]["default"]
    sizes = {
        name.strip('"'): (one["accelerator"], one["gpus"], one["provisioning"])
        for name, one in pools.items()
        if not name.startswith("__")
    }
    assert sizes == {
        "l4": ("nvidia-l4", 8, "spot"),
        "a100": ("nvidia-tesla-a100", 2, "spot"),
        "h100": ("nvidia-h100-80gb", 1, "flex_start"),
        "serving": ("nvidia-l4", 2, "on_demand"),
    }


def brackets(text: str) -> int:
    """Brackets opened less those closed, outside of strings."""
    bare = _STRING.sub("", text).partition("#")[0]
    return sum(bare.count(one) for one in OPENING) - sum(bare.count(one) for one in CLOSING)


def canonical(lines: list[str]) -> list[str]:
    """As `terraform fmt` lays lines out: two spaces a level, and the equals signs of assignments
    that follow each other in a column (hclwrite's rules, for what these files contain).
    """
    laid, depth = [], 0
    for line in lines:
        text = line.strip()
        closing = len(re.match(r"[\]})]*", text)[0]) if text else 0  # type: ignore[index]
        laid.append(f"{'  ' * (depth - (1 if closing else 0))}{text}" if text else "")
        depth += max(-1, min(1, brackets(text)))
    chain: list[int] = []
    for number, text in enumerate([*laid, ""]):
        parts = _ASSIGNED.match(text)
        if parts and brackets(text[parts.end() :]) == 0:
            chain.append(number)
            continue
        width = max((len(_assigned(laid[one])[2]) for one in chain), default=0)
        for one in chain:
            parts = _assigned(laid[one])
            laid[one] = f"{parts[1]}{parts[2]:<{width}} = {laid[one][parts.end() :]}"
        chain = []
    return laid


def _assigned(text: str) -> re.Match[str]:
    parts = _ASSIGNED.match(text)
    assert parts
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_formatted(path: Path) -> None:
    text = path.read_text()
    assert "\t" not in text
    assert "\n\n\n" not in text
    assert text.endswith("\n")
    assert text.splitlines() == canonical(text.splitlines())


def test_the_cluster_s_objects_find_what_they_name(found: list[Block]) -> None:
    """Secrets, accounts and parameters that deploy/kubernetes uses are those that are made here."""
    base = REPOSITORY / "deploy" / "kubernetes"
    named_there = set(re.findall(r"projects/PROJECT/secrets/([\w-]+)/", _yaml_text(base)))
    readers = locals_of(found)["secret_readers"]
    assert named_there <= {name.strip('"') for name in readers}
    accounts = {
        (one["metadata"]["name"], annotated.partition("@")[0])
        for one in _objects(base / "base" / "identities.yaml")
        if (annotated := one["metadata"].get("annotations", {}).get(ACCOUNT))
    }
    identities = locals_of(found)["identities"]
    bound = {
        (account.strip('"'), identity.strip('"'))
        for identity, pods in identities.items()
        for account in pods
    }
    assert accounts == bound
    wanted = re.findall(r"^(\w+)=", (base / "installation" / "parameters.env").read_text(), re.M)
    made = re.findall(r'"(\w+)=', str(named(found, "output")["parameters"]["value"]))
    assert set(wanted) <= set(made) | {"IMAGE_TAG"}


ACCOUNT = "iam.gke.io/gcp-service-account"


def _yaml_text(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*.yaml")))


def _objects(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]
