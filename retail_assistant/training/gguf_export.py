"""A merged model as one GGUF file, for llama.cpp and what is built on it.

Written with llama.cpp's own `gguf` package, tensor by tensor, so a large model needs no second copy
in memory. Only for Llama-type models with a byte-level BPE tokenizer, which is what can be checked
here by reading the file back; for others llama.cpp's converter takes the merged folder as it is.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

GgufType = Literal["bf16", "f16", "q8_0"]
ARCHITECTURE = "LlamaForCausalLM"
ELSEWHERE = "llama.cpp's convert_hf_to_gguf.py takes the merged folder"
# llama.cpp splits text into words before it merges bytes; it knows each way by a name.
LLAMA3_WORDS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"


class GgufError(ValueError):
    """A model cannot be written as GGUF here; says why, and what can do it."""


def require_exportable(model: Path) -> None:
    """Refuse a model that this module does not write, before hours are spent on it.

    Raises:
        GgufError: another architecture, scaled rotary positions, or another kind of tokenizer.
    """
    config = json.loads((model / "config.json").read_text())
    found = (config.get("architectures") or ["unknown"])[0]
    if found != ARCHITECTURE:
        raise GgufError(f"architecture {found}; allowed: {ARCHITECTURE} ({ELSEWHERE})")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise GgufError(f"rotary positions scaled by {kind!r}; allowed: unscaled ({ELSEWHERE})")
    _word_splitting(_tokenizer(model))


def export_gguf(model: Path, path: Path, tensor_type: GgufType = "bf16") -> Path:
    """Write a folder of safetensors with its tokenizer as one GGUF file.

    Args:
        model: the folder of the (merged) model.
        path: the file to write.
        tensor_type: of the matrices; vectors stay in float32.

    Raises:
        GgufError: this model is not written here; says what can do it.
    """
    import gguf

    require_exportable(model)
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    writer.add_name(model.name)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{tensor_type.upper()}"))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    _add_tokenizer(writer, model, config)
    _write_tensors(writer, model, config, tensor_type)
    return path


def _add_shape(writer: Any, config: dict[str, Any]) -> None:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head = config.get("head_dim") or hidden // heads
    rope = config.get("rope_parameters") or {}
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _tokenizer(model: Path) -> dict[str, Any]:
    path = model / "tokenizer.json"
    if not path.is_file():
        raise GgufError(f"{model} has no tokenizer.json; allowed: byte-level BPE ({ELSEWHERE})")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _word_splitting(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer cuts text into words."""
    if tokenizer["model"].get("type") != "BPE" or tokenizer["model"].get("byte_fallback"):
        raise GgufError(f"not a byte-level BPE tokenizer; allowed: byte-level BPE ({ELSEWHERE})")
    splitting = tokenizer.get("pre_tokenizer") or {}
    steps = splitting.get("pretokenizers", [splitting])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and LLAMA3_WORDS in steps[0]["pattern"].get("Regex", ""):
        return "llama-bpe"
    raise GgufError(
        f"words are split by {kinds}; allowed: as GPT-2, SmolLM or Llama 3 do ({ELSEWHERE})"
    )


def _add_tokenizer(writer: Any, model: Path, config: dict[str, Any]) -> None:
    from gguf import TokenType
    from transformers import AutoTokenizer

    content = _tokenizer(model)
    loaded = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    tokens = {number: text for text, number in content["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, TokenType.NORMAL)
    for added in content.get("added_tokens", ()):
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    size = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_word_splitting(content))
    # A model's matrix may have more rows than its tokenizer has tokens.
    writer.add_token_list([tokens.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types([types.get(number, TokenType.UNUSED) for number in range(size)])
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(loaded, f"{name}_token_id")
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    begins = loaded("a").input_ids[:1] == [loaded.bos_token_id]
    writer.add_add_bos_token(begins)
    writer.add_add_space_prefix(False)
    if loaded.chat_template:
        writer.add_chat_template(loaded.chat_template)


def _write_tensors(writer: Any, model: Path, config: dict[str, Any], tensor_type: GgufType) -> None:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    wanted = gguf.GGMLQuantizationType[tensor_type.upper()]
    for name, shape in _tensor_shapes(model):
        new = names.get_name(name, try_suffixes=(".weight",))
        if new is None:
            raise GgufError(f"{model}: tensor {name} is none of a Llama's ({ELSEWHERE})")
        kind = _kind(shape, wanted)
        size = math.prod(gguf.quants.quant_shape_to_byte_shape(shape, kind))
        writer.add_tensor_info(new, shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, values in _tensors(model):
        data = _interleaved(name, values, config)
        writer.write_tensor_data(gguf.quants.quantize(data, _kind(data.shape, wanted)))
    writer.close()


def _kind(shape: tuple[int, ...], wanted: Any) -> Any:
    """Vectors stay exact; a row that no block divides is kept in 16 bits."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else GGMLQuantizationType.F16


def _tensor_shapes(model: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    from safetensors import safe_open

    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                yield name, tuple(tensors.get_slice(name).get_shape())


def _tensors(model: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor in float32, in the order of `_tensor_shapes`."""
    from safetensors import safe_open

    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                yield name, tensors.get_tensor(name).float().numpy()


def _interleaved(name: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Queries and keys with each head's rotated pairs side by side, as llama.cpp wants them.

    Hugging Face keeps the pairs' first halves, then their second halves.
    """
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return values
    heads = config["num_attention_heads"]
    if name.endswith("k_proj.weight"):
        heads = config.get("num_key_value_heads") or heads
    rows, columns = values.shape
    pairs = values.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))
