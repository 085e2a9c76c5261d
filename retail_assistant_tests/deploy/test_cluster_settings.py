"""Settings and commands in the manifests are ones that the program knows."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from benchmarks.sizes import GEMMA_2_9B, MACHINES
from deploy.kubernetes.manifests import INSTANCE
from retail_assistant.serving.options import ServingSettings
from retail_assistant.settings import PACKAGE_FOLDER, SHIPPED_STUDIES, Settings
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.planning.plan import plan
from retail_assistant.training.studies import load_registry
from retail_assistant_tests.deploy.rendered import (
    ALL,
    GPU,
    TRAINED,
    containers_of,
    kuberay_of,
    named,
    of_kind,
    pods_of,
    ray_jobs,
    settings_of,
    text_of,
)

STUDIES, TEMPLATES = "RETAIL_STUDIES", "RETAIL_KUBERAY_TEMPLATES"


def known() -> set[str]:
    """Fields of the settings, and what the code reads from the environment by name."""
    fields = {f"RETAIL_{name.upper()}" for name in Settings.model_fields}
    fields |= {f"RETAIL_SERVING_{name.upper()}" for name in ServingSettings.model_fields}
    read = re.compile(r'"(RETAIL_[A-Z_]+)"')
    for path in PACKAGE_FOLDER.rglob("*.py"):
        fields |= set(read.findall(path.read_text(encoding="utf-8")))
    return fields


def variables(overlay: str) -> dict[str, str]:
    """Every variable of ConfigMaps that pods take in."""
    found: dict[str, str] = {}
    for one in of_kind(overlay, "ConfigMap"):
        if one["metadata"]["name"].startswith(
            ("retail-assistant-settings", "assistant-settings", "mlflow-settings")
        ):
            found |= one["data"]
    return found


@pytest.mark.parametrize("overlay", ALL)
def test_every_setting_is_one(overlay: str) -> None:
    instance = named(overlay, "ConfigMap", "dagster-instance")["data"]["dagster.yaml"]
    of_dagster = set(re.findall(r"env: (RETAIL_[A-Z_]+)", instance))
    written = set(re.findall(r"\bRETAIL_[A-Z_]+\b", text_of(overlay)))
    assert written <= known() | of_dagster


@pytest.mark.parametrize("overlay", ALL)
def test_the_program_takes_the_settings(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in named(overlay, "ConfigMap", "studies")["data"].items():
        (tmp_path / name).write_text(text)
    for name, value in variables(overlay).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(STUDIES, str(tmp_path))
    monkeypatch.setenv("RETAIL_WORK_FOLDER", str(tmp_path / "work"))
    settings, serving = Settings(), ServingSettings()
    assert (settings.launcher, settings.approval_mode) == ("kuberay", "required")
    assert (serving.port, serving.require_keys) == (8000, True)
    Devices.parsed(settings.devices)
    jobs = load_registry(SHIPPED_STUDIES, tmp_path).jobs.values()
    own = [job for job in jobs if job.study in ("gemma-2-9b", "small")]
    assert own
    for job in own:
        job.require_base_model(settings.base_model)


@pytest.mark.parametrize("overlay", ALL)
def test_folders_in_settings_are_mounted_where_they_are_read(overlay: str) -> None:
    given = settings_of(overlay)
    for pod, template in pods_of(overlay):
        mounts = {
            mount["mountPath"]
            for container in template["spec"]["containers"]
            for mount in container.get("volumeMounts", [])
        }
        submits = pod.endswith("submitter")
        takes_settings = any(
            source.get("configMapRef", {}).get("name") == "retail-assistant-settings"
            for container in containers_of(template)
            for source in container.get("envFrom", [])
        )
        if takes_settings or (pod.startswith("RayJob") and not submits):
            assert given[STUDIES] in mounts, pod
            assert given["RETAIL_WORK_FOLDER"] in mounts, pod
    (location,) = named(overlay, "Deployment", "code-location")["spec"]["template"]["spec"][
        "containers"
    ]
    assert given[TEMPLATES] in {mount["mountPath"] for mount in location["volumeMounts"]}


@pytest.mark.parametrize("overlay", ALL)
def test_the_instance_finds_its_variables(overlay: str) -> None:
    instance = yaml.safe_load(
        named(overlay, "ConfigMap", "dagster-instance")["data"]["dagster.yaml"]
    )
    asked = set(re.findall(r"'env': '([A-Z_]+)'", str(instance)))
    secret = {
        entry["key"]
        for one in of_kind(overlay, "SecretProviderClass")
        for made in one["spec"]["secretObjects"]
        for entry in made["data"]
    }
    assert asked <= variables(overlay).keys() | secret
    launcher = instance["run_launcher"]["config"]
    assert launcher["instance_config_map"] == "dagster-instance"
    assert launcher["dagster_home"] == settings_of(overlay)["DAGSTER_HOME"]
    for name in ("dagster-webserver", "dagster-daemon", "code-location"):
        (container,) = named(overlay, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        paths = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert f"{launcher['dagster_home']}/dagster.yaml" in paths


@pytest.mark.parametrize("overlay", ALL)
def test_images_in_settings_are_those_of_the_pods(overlay: str) -> None:
    head = named(overlay, "RayCluster", "ray")["spec"]["headGroupSpec"]["template"]["spec"]
    assert settings_of(overlay)["RETAIL_KUBERAY_IMAGE"] == head["containers"][0]["image"]
    (location,) = named(overlay, "Deployment", "code-location")["spec"]["template"]["spec"][
        "containers"
    ]
    of_runs = {one["name"]: one["value"] for one in location["env"]}["DAGSTER_CURRENT_IMAGE"]
    assert of_runs == location["image"]
    for pod, template in pods_of(overlay):
        for container in containers_of(template):
            assert container["image"].startswith(
                "registry.example.com/my-project/retail-assistant-"
            ), pod


def groups() -> dict[str, Any]:
    """The programs that pods start."""
    import typer
    from dagster._cli import cli as dagster
    from dagster._daemon.cli import cli as daemon
    from dagster_webserver.cli import cli as webserver
    from mlflow.cli import cli as mlflow

    from retail_assistant.cli import app

    return {
        "dagster": dagster,
        "dagster-daemon": daemon,
        "dagster-webserver": webserver,
        "mlflow": mlflow,
        "retail-assistant": typer.main.get_command(app),
    }


def commands(overlay: str) -> Iterator[tuple[str, list[str]]]:
    for pod, template in pods_of(overlay):
        for container in containers_of(template):
            words = container.get("command", []) + container.get("args", [])
            if words:
                yield pod, words
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "exec" in container.get(probe, {}):
                    yield pod, container[probe]["exec"]["command"]


def parse(command: Any, words: list[str], parent: click.Context | None = None) -> None:
    """Take the words apart as the program would, without running anything.

    Raises:
        click.UsageError: an option or a command that it does not know.
    """
    context = command.make_context(words[0], words[1:], parent=parent)
    if hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, found, left = command.resolve_command(context, rest)
        parse(found, [name, *left], context)


def test_commands_are_real() -> None:
    known_groups = groups()
    parsed = set()
    for overlay in ALL:
        for pod, words in commands(overlay):
            assert words[0] in known_groups, f"{pod}: {words}"
            here = [word.replace("/etc/dagster", str(INSTANCE.parent)) for word in words]
            parse(known_groups[words[0]], here)
            parsed.add(words[0])
    assert parsed == known_groups.keys()


def test_a_command_that_is_none_is_told() -> None:
    import typer

    from retail_assistant.cli import app

    with pytest.raises(Exception, match=r"(?i)no such"):
        parse(typer.main.get_command(app), ["retail-assistant", "serve", "--mistyped"])


@pytest.mark.parametrize("overlay", ALL)
def test_ray_jobs_carry_no_secret_and_the_launcher_s_own_fields(overlay: str) -> None:
    for job in ray_jobs(overlay):
        text = yaml.safe_dump(job)
        assert "filled-in" not in text
        assert "RAY_AUTH_TOKEN" not in text
        cluster = job["spec"]["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-auth"}
        assert len(cluster["workerGroupSpecs"]) == 1


@pytest.mark.parametrize("overlay", ALL)
def test_ray_is_the_locked_version(overlay: str) -> None:
    lock = (PACKAGE_FOLDER.parent / "requirements" / "cpu.lock").read_text()
    locked = re.search(r"^ray(?:\[.*\])?==([\d.]+)", lock, re.MULTILINE)
    assert locked
    clusters = [named(overlay, "RayCluster", "ray")["spec"]]
    clusters += [one["spec"]["rayClusterSpec"] for one in ray_jobs(overlay)]
    assert {one["rayVersion"] for one in clusters} == {locked[1]}


@pytest.mark.parametrize("overlay", GPU)
def test_the_overlay_s_study_fits_its_machine_by_the_plan(overlay: str, tmp_path: Path) -> None:
    for name, text in named(overlay, "ConfigMap", "studies")["data"].items():
        (tmp_path / name).write_text(text)
    devices = Devices.parsed(settings_of(overlay)["RETAIL_DEVICES"])
    assert settings_of(overlay)["RETAIL_DEVICES"] in MACHINES.values()
    jobs = [
        j for j in load_registry(SHIPPED_STUDIES, tmp_path).jobs.values() if j.study == "gemma-2-9b"
    ]
    assert jobs
    for job in jobs:
        made = plan(job.hyperparameters, job.resources, GEMMA_2_9B, devices)
        assert not made.offload
        assert made.gpus == devices.total
        rows = made.ranks * job.hyperparameters.batch_size
        assert rows * job.hyperparameters.gradient_accumulation_steps == 16
        template = kuberay_of(overlay, TRAINED).template
        assert template is not None
        assert made.host_memory_gib < MEMORY_GIB[overlay]


MEMORY_GIB: Mapping[str, float] = {"l4": 384, "a100": 170, "h100": 234}
"""Of g2-standard-96, a2-highgpu-2g and a3-highgpu-1g."""


def test_run_pods_context_is_json_of_one_platform() -> None:
    for overlay in ALL:
        data = named(overlay, "ConfigMap", "dagster-run-pods")["data"]
        assert json.loads(data["DAGSTER_CONTAINER_CONTEXT"]).keys() == {"k8s"}
