"""The asset `merged_model` in Dagster: merged in its own process, shown with its card."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.merged import merged_model
from retail_assistant.defs.partitions import REGISTRY
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import (
    ArtefactRef,
    Manifest,
    OutputFile,
    read_artefact_ref,
    write_artefact_ref,
)
from retail_assistant.settings import get_settings
from retail_assistant.storage import file_sha256
from retail_assistant_tests.training.storage import keep_base_model

pytestmark = pytest.mark.slow
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def storage(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A storage folder with the tiny base model laid out, and an adapter of a shipped job."""
    root = tmp_path_factory.mktemp("var")
    job = next(iter(REGISTRY.jobs))
    base = keep_base_model(root, tiny_model_folder)
    write_artefact_ref(an_adapter(base, root), root, "adapter", job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAIL_STORAGE_URI", str(root))
        get_settings.cache_clear()
        yield root, job
    get_settings.cache_clear()


def an_adapter(base: ArtefactRef, root: Path) -> ArtefactRef:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = root / "artefacts" / "adapter" / "made-by-hand"
    model = AutoModelForCausalLM.from_pretrained(base.folder / "model")
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.05)
    adapted.save_pretrained(folder / "adapter")
    manifest = Manifest(
        name="adapter",
        fingerprint="made-by-hand",
        code_version="2",
        inputs={"prompt_corpus": "c" * 64, "base_model": base.fingerprint},
        config={"task": "assistant", "hyperparameters": {"lora_r": 4, "quantization": "4bit"}},
        outputs={
            path.name: OutputFile(
                path=f"adapter/{path.name}", sha256=file_sha256(path), size=path.stat().st_size
            )
            for path in (folder / "adapter").iterdir()
        },
        metrics={"train_loss": 0.25, "train_rows": 95},
        started=MOMENT,
        finished=MOMENT,
        host={},
        packages={},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return ArtefactRef(folder=folder, fingerprint="made-by-hand")


def materialize(job: str, **config: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            merged_model,
            dg.AssetSpec("adapter", partitions_def=merged_model.partitions_def),
            dg.AssetSpec("base_model"),
        ],
        partition_key=job,
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        run_config=dg.RunConfig(ops={"merged_model": {"config": config}}),
        selection=[merged_model],
        raise_on_error=False,
    )


def test_a_merged_model_is_made_and_shown(storage: tuple[Path, str]) -> None:
    root, job = storage
    result = materialize(job)
    assert result.success
    (made,) = result.asset_materializations_for_node("merged_model")
    shown = made.metadata
    assert shown["max_logit_difference"].value < 0.05 * shown["logit_range"].value
    assert shown["effect_lost"].value < 0.25
    card = shown["model_card"].value
    assert card.startswith(f"# Merged model {job}")
    for told in ("c" * 64, "made-by-hand", "0.25", "trained on the base in 4bit"):
        assert told in card
    ref = read_artefact_ref(root, "merged_model", job)
    assert (ref.folder / "model" / "model.safetensors").is_file()
    assert not list((ref.folder / "model").glob("*.gguf"))
    again = materialize(job)
    assert read_artefact_ref(root, "merged_model", job) == ref
    assert again.success


def test_a_gguf_type_that_does_not_exist_is_refused(storage: tuple[Path, str]) -> None:
    result = materialize(storage[1], gguf="q3_k")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "'bf16', 'f16' or 'q8_0'" in str(failure.step_failure_data.error)
