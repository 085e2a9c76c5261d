"""GGUF export: read back by transformers it is the model it was; what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.training.gguf_export import (
    GgufError,
    GgufType,
    export_gguf,
    require_exportable,
)
from retail_assistant.training.merge import gguf_difference
from retail_assistant_tests.model_families import gemma_tokenizer, llama_tokenizer, save_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untied, every head its own keys and values, words split as Llama 3 does."""
    folder = tmp_path_factory.mktemp("llama")
    save_tiny_model(
        folder,
        llama_tokenizer(),
        tie_word_embeddings=False,
        num_key_value_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )
    return folder


@pytest.mark.parametrize(("tensor_type", "most"), [("bf16", 2e-2), ("f16", 2e-3), ("q8_0", 2e-2)])
def test_a_file_reads_back_as_the_model(
    llama_folder: Path, tmp_path: Path, tensor_type: GgufType, most: float
) -> None:
    from gguf import GGUFReader

    path = export_gguf(llama_folder, tmp_path / "model.gguf", tensor_type)
    assert gguf_difference(llama_folder, path) < most
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert kinds["blk.0.attn_q.weight"] == tensor_type.upper()
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert "output.weight" in kinds


def test_the_tokenizer_goes_with_it(llama_folder: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    path = export_gguf(llama_folder, tmp_path / "model.gguf")
    fields = GGUFReader(path).fields
    assert fields["tokenizer.ggml.pre"].contents() == "llama-bpe"
    assert fields["llama.rope.freq_base"].contents() == 500_000.0
    assert fields["tokenizer.ggml.add_bos_token"].contents() is True
    ours = AutoTokenizer.from_pretrained(llama_folder)
    theirs = fields["tokenizer.ggml.tokens"].contents()
    assert theirs == ours.convert_ids_to_tokens(range(len(ours)))
    assert fields["tokenizer.ggml.eos_token_id"].contents() == ours.eos_token_id


def changed(folder: Path, to: Path, **changes: Any) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **changes}))
    return to


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["Gemma2ForCausalLM"]}, "architecture Gemma2ForCausalLM; allowed"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scaled by 'llama3'; allowed"),
        (
            {"rope_scaling": None, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "scaled by 'yarn'; allowed",
        ),
    ],
)
def test_other_models_are_refused_with_the_way_out(
    llama_folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(GgufError, match=words) as refused:
        require_exportable(changed(llama_folder, tmp_path / "other", **changes))
    assert "convert_hf_to_gguf.py" in str(refused.value)


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "g", gemma_tokenizer())
    with pytest.raises(GgufError, match="allowed: byte-level BPE"):
        require_exportable(tmp_path / "g")
