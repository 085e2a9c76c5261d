"""Merging: the merged model says what base and adapter say; a merge that does not is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Manifest
from retail_assistant.training.merge import Agreement, MergeError, compare_logits, merge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapter_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes the tiny model's answers: LoRA with weights that are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    lora = LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.05)
    model.save_pretrained(folder)
    return folder


def merge_spec(base: Path, adapter: Path, root: Path, **config: Any) -> LaunchSpec:
    return LaunchSpec(
        name="merged_model",
        module="retail_assistant.training.merge",
        config=config,
        inputs={"adapter": "a", "base_model": "b"},
        paths={"base_model": base, "adapter": adapter},
        code_version="1",
        root=root,
    )


@pytest.fixture(scope="module")
def merged(
    tiny_model_folder: Path, adapter_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """The workload's own process, asked for a GGUF file too."""
    root = tmp_path_factory.mktemp("merged")
    spec = merge_spec(tiny_model_folder, adapter_folder, root, gguf="bf16")
    return spec.folder, run_local(spec)


def test_merged_and_unmerged_logits_agree(merged: tuple[Path, Manifest]) -> None:
    metrics = merged[1].metrics
    assert metrics["positions"] > 50
    assert metrics["adapter_effect"] > 0.01, "an adapter that changes nothing proves nothing"
    assert metrics["max_logit_difference"] / metrics["logit_range"] < 0.02
    assert metrics["effect_lost"] < 0.05
    assert metrics["same_first_choice"] > 0.95


def test_the_result_is_a_plain_model_in_bfloat16(merged: tuple[Path, Manifest]) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, manifest = merged
    with safe_open(folder / "model" / "model.safetensors", "pt") as tensors:
        names = list(tensors.keys())
        assert {tensors.get_tensor(name).dtype for name in names} == {torch.bfloat16}
    assert not any("lora" in name for name in names)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    ids = tokenizer("What is this watch made of?", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=3).shape[1] > ids.input_ids.shape[1]
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "agreement"} <= set(
        manifest.outputs
    )


def test_the_gguf_file_reads_back_as_the_same_model_and_tokenizer(
    merged: tuple[Path, Manifest], tiny_model_folder: Path
) -> None:
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    folder, manifest = merged
    assert manifest.metrics["gguf_difference_of_range"] < 1e-4
    ours = AutoTokenizer.from_pretrained(tiny_model_folder)
    theirs = AutoTokenizer.from_pretrained(folder / "model", gguf_file="model-bf16.gguf")
    for text in ("Analog watch, Rs. 1,499 — for men's wrists", "<|im_start|>user\nhi<|im_end|>\n"):
        assert theirs(text).input_ids == ours(text).input_ids
    fields = GGUFReader(folder / "model" / "model-bf16.gguf").fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == ours.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == ours.chat_template


def test_a_merge_that_lost_the_adapter_is_refused(
    tiny_model_folder: Path, adapter_folder: Path
) -> None:
    lost = compare_logits(tiny_model_folder, adapter_folder, tiny_model_folder)
    assert lost.effect_lost == pytest.approx(1.0)
    with pytest.raises(MergeError, match=r"100\.0% of what the adapter changes \(allowed: 25%\)"):
        lost.require()


def test_a_merge_with_the_wrong_scale_is_refused(
    tiny_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in adapter_folder.iterdir():
        (wrong / path.name).write_bytes(path.read_bytes())
    config = json.loads((wrong / "adapter_config.json").read_text())
    (wrong / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 16}))
    halved = merge(tiny_model_folder, wrong, tmp_path / "merged", "bfloat16")
    with pytest.raises(MergeError):
        compare_logits(tiny_model_folder, adapter_folder, halved).require()


def test_the_base_keeps_its_precision_where_none_is_asked_for(
    tiny_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    same = compare_logits(
        tiny_model_folder, adapter_folder, merge(tiny_model_folder, adapter_folder, tmp_path / "m")
    )
    same.require()
    assert same.max_logit_difference / same.logit_range < 1e-5


def test_what_cannot_be_exported_is_refused_before_the_merge(
    tiny_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    scaled = tmp_path / "scaled"
    scaled.mkdir()
    for path in tiny_model_folder.iterdir():
        (scaled / path.name).write_bytes(path.read_bytes())
    config = json.loads((scaled / "config.json").read_text())
    config["architectures"] = ["Gemma2ForCausalLM"]
    (scaled / "config.json").write_text(json.dumps(config))
    spec = merge_spec(scaled, adapter_folder, tmp_path / "root", gguf="q8_0")
    with pytest.raises(LaunchError, match="architecture Gemma2ForCausalLM; allowed"):
        run_local(spec)
    assert not (spec.folder / "model").exists()


def test_an_adapter_without_any_effect_agrees() -> None:
    Agreement(
        positions=1,
        max_logit_difference=0.0,
        mean_logit_difference=0.0,
        logit_range=1.0,
        adapter_effect=0.0,
        same_first_choice=1.0,
    ).require()
