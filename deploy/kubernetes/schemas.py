"""Whether an object is what its kind allows, without a cluster."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.35"
"""The version whose schemas count. Terraform's release channel is ahead of it or there."""

CUSTOM = Path(__file__).with_name("custom_resources.yaml")
_CRD = "CustomResourceDefinition"


def problems(
    one: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """What is wrong with an object; fields that its kind does not know are.

    Args:
        one: the object.
        definitions: more schemas of custom resources, by apiVersion/kind.
    """
    name = f"{one['apiVersion']}/{one['kind']}"
    more = (definitions or {}).get(name)
    found = list(_violations(one, more)) if more else []
    if name not in _custom():
        return found + _kubernetes_problems(one)
    found += _violations(one, _custom()[name])
    for where, template in pod_templates(one):
        found += [f"{where}: {line}" for line in _kubernetes_problems(_as_object(template))]
    return found


def pod_templates(one: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods that an object makes, with where in it they are described."""
    kind, spec = one["kind"], one.get("spec", {})
    if kind in ("Deployment", "Job"):
        yield "spec.template", spec["template"]
    elif kind == "CronJob":
        yield "spec.jobTemplate", spec["jobTemplate"]["spec"]["template"]
    elif kind == "RayJob":
        if "submitterPodTemplate" in spec:
            yield "submitter", spec["submitterPodTemplate"]
        yield from _ray_pods(spec["rayClusterSpec"])
    elif kind == "RayCluster":
        yield from _ray_pods(spec)


def _ray_pods(cluster: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs", []):
        yield f"workers {group['groupName']}", group["template"]


def _as_object(template: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "checked"},
        "template": dict(template),
    }


def _kubernetes_problems(one: Mapping[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(dict(one), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError):
        return [f"Kubernetes {KUBERNETES} has no {one['kind']} in {one['apiVersion']}"]
    return []


def _violations(one: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(one):
        yield f"{error.json_path}: {error.message}"


@functools.cache
def _custom() -> dict[str, dict[str, Any]]:
    """Our own schemas of custom resources, by apiVersion/kind."""
    read = yaml.safe_load(CUSTOM.read_text(encoding="utf-8"))
    return {
        name: {
            "type": "object",
            "additionalProperties": False,
            "required": ["apiVersion", "kind", "metadata"],
            "properties": {
                "apiVersion": {"const": name.rpartition("/")[0]},
                "kind": {"const": name.rpartition("/")[2]},
                "metadata": {"$ref": f"#/definitions/{kind['metadata']}"},
                "spec": kind["spec"],
            },
            "definitions": read["definitions"],
        }
        for name, kind in read["kinds"].items()
    }


def definitions_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The schemas of all CustomResourceDefinitions below a folder, by apiVersion/kind.

    As in a cluster with field validation, fields that a definition does not name are refused.
    """
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            for definition in (one or {}).get("items", [one]):
                if definition and definition.get("kind") == _CRD:
                    found |= _of_definition(definition["spec"])
    return found


def _of_definition(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{spec['group']}/{version['name']}/{spec['names']['kind']}": _closed(
            version["schema"]["openAPIV3Schema"]
        )
        for version in spec["versions"]
    }


def _closed(schema: Any) -> Any:
    """The schema, refusing fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("pattern"), str):
        # Go takes flags anywhere, Python at the beginning.
        closed["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
        closed["additionalProperties"] = False
    return closed
