"""Base models from a folder: laid out as safetensors, described, refused where they are unfit."""

import shutil
from pathlib import Path

import pytest

from retail_assistant.base_model import (
    CARD,
    CARD_CHARACTERS,
    EMBEDDED_CARD,
    EMBEDDED_GGUF_SHA256,
    BaseModelError,
    lay_out,
    read_facts,
    shown_card,
    source_version,
)


def test_a_folder_is_laid_out_and_described(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    version = source_version(str(tiny_model_folder))
    licence = lay_out(str(tiny_model_folder), tmp_path / "model")
    facts = read_facts("tiny", version, licence, tmp_path / "model")
    assert facts.architecture == "LlamaForCausalLM"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert facts.shape.parameters == facts.parameters
    assert facts.shape.architecture == facts.architecture
    assert facts.vocabulary_size == facts.shape.vocabulary == len(tokenizer) == 4096
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


def test_the_card_comes_along_and_its_licence_is_read(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny_model_folder, source)
    (source / CARD).write_text("---\nlicense: gemma\n---\n# A model\nIt has limits.\n")
    version = source_version(str(source))
    assert lay_out(str(source), tmp_path / "model") == "gemma"
    assert shown_card(tmp_path / "model") == "# A model\nIt has limits."
    # A word more in its card does not make it another model.
    (source / CARD).write_text("---\nlicense: gemma\n---\n# A model\n")
    assert source_version(str(source)) == version


def test_a_card_from_outside_brings_no_markup_nor_pictures(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(
        "# Model\n![logo](https://example.com/a.png)<img src='https://example.com/b.png'>"
        "<script>alert(1)</script> <!-- note --> <b>bold</b> <https://example.com> 1 < 2 > 0"
    )
    text = shown_card(tmp_path)
    assert "<https://example.com>" in text
    assert "1 < 2 > 0" in text
    for word in ("![", "<img", "<script", "<!--", "<b>"):
        assert word not in text
    (tmp_path / CARD).write_text("word " * CARD_CHARACTERS)
    assert len(shown_card(tmp_path)) <= CARD_CHARACTERS + 2


def test_a_model_without_a_card_is_said_to_have_none(tmp_path: Path) -> None:
    assert "without a card" in shown_card(tmp_path)


def test_the_embedded_model_has_a_card(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(EMBEDDED_CARD)
    text = shown_card(tmp_path)
    assert text.startswith("# SmolLM2-135M-Instruct")
    assert EMBEDDED_GGUF_SHA256 in text
    assert "license:" not in text
