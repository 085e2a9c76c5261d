"""Lock files, read; and an environment that has only what one of them names."""

import os
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from retail_assistant_tests.conftest import REPOSITORY

OWN = frozenset({"retail-assistant"})
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, str]:
    """Distribution -> version, of `requirements/<name>.lock`."""
    text = (REPOSITORY / "requirements" / f"{name}.lock").read_text()
    return {canonical(one): version for one, version in _PIN.findall(text)}


def wanted(name: str) -> set[str]:
    """The distributions that `requirements/<name>.in` itself lists."""
    lines = (REPOSITORY / "requirements" / f"{name}.in").read_text().splitlines()
    return {canonical(found[0]) for line in lines if (found := _NAME.match(line))}


def providers() -> dict[str, set[str]]:
    """Top-level module -> the installed distributions that have it."""
    found = packages_distributions()
    return {module: {canonical(one) for one in names} for module, names in found.items()}


def environment_of(lock: str, folder: Path) -> dict[str, str]:
    """Variables with which a command sees this environment as an image has it: less."""
    has = set(locked(lock)) | OWN
    hidden = sorted(module for module, names in providers().items() if not names & has)
    names = folder / "locked.txt"
    names.write_text(f"{' '.join(sorted(has))}\n{' '.join(hidden)}\n")
    hook = Path(__file__).parent / "locked"
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{hook}{os.pathsep}{REPOSITORY}",
        "LOCKED_TO": str(names),
    }
