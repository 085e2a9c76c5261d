"""RayJob templates: what a cluster decides about jobs, apart from what a job itself needs.

A template is a RayJob manifest (ray.io/v1, YAML) with everything that is the cluster's matter:
accounts, security, volumes, secrets, queue, tolerations. `default.yaml` is for all assets; a file
named like an asset (`product_images.yaml`) is for that asset alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retail_assistant.yaml_files import YamlError, parsed_yaml

DEFAULT_TEMPLATE = "default.yaml"
_IDENTITIES = ("name", "groupName")
"""Fields that tell which item of a list is meant: containers, volumes, variables; worker groups."""


class TemplateError(ValueError):
    """A template is missing or is no RayJob; the message names the file and what is allowed."""


def read_template(folder: Path, asset: str) -> dict[str, Any]:
    """The template for an asset's jobs: its own, else the one for all.

    Raises:
        TemplateError: there is none, or it is no RayJob.
    """
    own = folder / f"{asset}.yaml"
    path = own if own.is_file() else folder / DEFAULT_TEMPLATE
    try:
        read = parsed_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TemplateError(
            f"RETAIL_KUBERAY_TEMPLATES={folder}: {path.name} cannot be read"
            f" ({error.strerror}); allowed: a folder with {DEFAULT_TEMPLATE}"
        ) from error
    except (YamlError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path} is no YAML: {error}") from error
    kind = read.get("kind") if isinstance(read, dict) else None
    if kind != "RayJob":
        raise TemplateError(f"{path}: kind is {kind}; allowed: RayJob")
    return dict(read)


def filled(template: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The template with a job's manifest laid over it: what the manifest says wins.

    Mappings are joined field by field; of lists, items of the same name (or worker group) are
    joined, other items of mappings are added, and lists of plain values are replaced.
    """
    joined = dict(template)
    for field, value in manifest.items():
        joined[field] = _joined(joined[field], value) if field in joined else value
    return joined


def _joined(there: Any, value: Any) -> Any:
    if isinstance(there, Mapping) and isinstance(value, Mapping):
        return filled(there, value)
    if _is_list_of_mappings(there) and _is_list_of_mappings(value):
        return _joined_items(there, value)
    return value


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _joined_items(
    there: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    joined = [dict(item) for item in there]
    places = {_identity(item): place for place, item in enumerate(joined)}
    for item in items:
        place = places.get(_identity(item)) if _identity(item) else None
        if place is None:
            joined.append(dict(item))
        else:
            joined[place] = filled(joined[place], item)
    return joined


def _identity(item: Mapping[str, Any]) -> tuple[str, Any] | None:
    return next(((field, item[field]) for field in _IDENTITIES if field in item), None)
