"""Write google_schema.json: what Google's Terraform provider takes, for the resources used here.

    python -m retail_assistant_tests.deploy.write_schema FOLDER

FOLDER is the unpacked wheel of the package `cdktn-provider-google` 21.1.0, which is made from the
schema of the provider, version 8.7.0. Only after a new kind of resource or argument:
the file is committed, so that the tests need neither the package nor a network.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

from retail_assistant_tests.deploy.terraform import blocks, configuration

SCHEMA = Path(__file__).parent / "google_schema.json"
META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}


def camel(name: str) -> str:
    """container_cluster -> ContainerCluster."""
    return "".join(part.capitalize() for part in name.split("_"))


def classes(file: Path) -> dict[str, ast.FunctionDef]:
    """Class name -> its __init__, of the package's Python module of one resource."""
    tree = ast.parse(file.read_text())
    return {
        node.name: init
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for init in node.body
        if isinstance(init, ast.FunctionDef) and init.name == "__init__"
    }


def described(name: str, found: dict[str, ast.FunctionDef]) -> dict[str, Any]:
    """Arguments (whether each is required) and nested blocks of a structure."""
    arguments: dict[str, bool] = {}
    nested: dict[str, Any] = {}
    takes = found[name].args
    for argument, default in zip(takes.kwonlyargs, takes.kw_defaults, strict=True):
        if argument.arg in META or argument.annotation is None:
            continue
        quoted = re.findall(r"'(\w+)'|\"(\w+)\"", ast.unparse(argument.annotation))
        inner = next((one for pair in quoted for one in pair if one in found), None)
        if inner is None:
            arguments[argument.arg] = default is None
        else:
            nested[argument.arg] = {"required": default is None, **described(inner, found)}
    return {"arguments": arguments, "blocks": nested}


def main() -> None:
    """Read the package, write the file."""
    package = Path(sys.argv[1]) / "cdktn_provider_google"
    used = {
        (kind, labels[0])
        for kind, labels, _ in blocks(configuration())
        if kind in ("resource", "data") and labels[0].startswith("google_")
    }
    schema = {}
    for kind, resource in sorted(used):
        name = resource.removeprefix("google_")
        module = name if kind == "resource" else f"data_google_{name}"
        found = classes(package / module / "__init__.py")
        schema[f"{kind}.{resource}"] = described(f"{camel(module)}Config", found)
    SCHEMA.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
