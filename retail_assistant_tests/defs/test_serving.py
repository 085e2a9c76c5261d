"""The asset `deployment_bundle`: all that a server needs, whole, and the same numbers."""

import json
import subprocess
from pathlib import Path

import dagster as dg
import pytest
import yaml

from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.resources import Launcher
from retail_assistant.defs.serving import deployment_bundle
from retail_assistant.evaluation.registry import write_champion
from retail_assistant.launch.spec import read_artefact_ref, read_manifest
from retail_assistant.settings import get_settings
from retail_assistant.training.merge import compare_logits
from retail_assistant_tests.serving.champions import champion, publish_index, storage_with

INPUTS = [dg.AssetSpec(name) for name in ("champion", "catalog_index", "base_model")]
VARIANTS = ("vllm", "vllm-adapter", "transformers", "nim")


@pytest.mark.fault(
    "a file of a deployment bundle is altered on its way to a server",
    "the command that would start the server says so and starts nothing",
)
@pytest.mark.slow
@pytest.mark.usefixtures("fresh_settings")
def test_a_bundle_holds_what_was_promoted(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    get_settings.cache_clear()
    settings = storage_with(tiny_model_folder, tmp_path)
    promoted = champion(settings, "a/job", 4, adapter_seed=5)
    write_champion(promoted, settings)
    publish_index(settings, "index1")
    result = dg.materialize(
        [deployment_bundle, *INPUTS],
        selection=["deployment_bundle"],
        resources={"io_manager": StorageIOManager(), "launcher": Launcher(kind="local")},
        run_config={"ops": {"deployment_bundle": {"config": {"nim_image": "nvcr.io/x:1"}}}},
    )
    assert result.success
    folder = read_artefact_ref(tmp_path, "deployment_bundle").folder
    manifest = read_manifest(folder)  # every file's hash is what it says
    assert manifest is not None

    told = json.loads((folder / "bundle.json").read_text())
    name = f"a-job-{promoted.adapter.fingerprint}"
    assert (told["name"], told["index"]) == (name, "index1")
    assert told["model"]["precision"] == "float32"
    adapter = folder / "adapters" / name
    assert {f"adapters/{name}/adapter_config.json", "model/model.safetensors", "nim.yaml"} <= set(
        manifest.outputs
    )
    agreement = compare_logits(tiny_model_folder, adapter, folder / "model")
    assert agreement.adapter_effect > 0.01
    assert agreement.max_logit_difference < 1e-3 * agreement.logit_range

    for variant in VARIANTS:
        subprocess.run(["sh", "-n", folder / f"start-{variant}.sh"], check=True)
    deployment, service = yaml.safe_load_all((folder / "nim.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nvcr.io/x:1"
    assert name in json.dumps(container["env"])
    probes = {kind: container[kind]["httpGet"]["path"] for kind in container if "Probe" in kind}
    assert probes == {
        "startupProbe": "/v1/health/ready",
        "readinessProbe": "/v1/health/ready",
        "livenessProbe": "/v1/health/live",
    }
    assert service["spec"]["type"] == "ClusterIP"
    assert "{{" not in (folder / "README.md").read_text()
    assert "SHA256SUMS" in manifest.outputs
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    start = folder / "start-vllm.sh"
    weights = folder / "model" / "config.json"
    weights.write_text(weights.read_text() + " ")
    refused = subprocess.run([start], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "a file of this bundle was altered" in refused.stderr
