"""Base models from a folder: laid out as safetensors, described, refused where they are unfit."""

from pathlib import Path

import pytest

from retail_assistant.base_model import BaseModelError, lay_out, read_facts, source_version


def test_a_folder_is_laid_out_and_described(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    version = source_version(str(tiny_model_folder))
    licence = lay_out(str(tiny_model_folder), tmp_path / "model")
    facts = read_facts("tiny", version, licence, tmp_path / "model")
    assert facts.architecture == "LlamaForCausalLM"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert facts.vocabulary_size == len(tokenizer) == 4096
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Red kurta?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert source_version(str(tmp_path / "model")) == version


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BaseModelError, match="holds no"):
        source_version(str(tmp_path))


def test_a_model_without_a_chat_template_is_described(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    lay_out(str(tiny_model_folder), tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    assert read_facts("tiny", "1", "unknown", tmp_path / "model").chat_template == ""
