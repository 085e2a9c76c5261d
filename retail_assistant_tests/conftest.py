"""Fixtures that more than one stage uses."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.settings import EMBEDDED_CATALOG, get_settings
from retail_assistant_tests.emulator import gcs_emulator

__all__ = ["gcs_emulator"]

REPOSITORY = Path(__file__).resolve().parent.parent
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def real_catalog() -> Path:
    """The first 999 rows of the public Flipkart sample; skips where they are not at hand."""
    named = os.environ.get("RETAIL_REAL_CATALOG")
    path = (
        Path(named) if named else REPOSITORY.parent / "shared" / "data" / "flipkart_sample_999.csv"
    )
    if not path.is_file():
        pytest.skip(f"no real catalog rows at {path}; name the file in RETAIL_REAL_CATALOG")
    return path


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """Settings are read from the environment as the test leaves it, and again after the test."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of 0.4 million random weights, for `RETAIL_BASE_MODEL`.

    A Llama (2 layers, heads of 32 as vLLM's CPU attention wants them) with a ChatML tokenizer of
    4096 tokens learned from the embedded catalog: model.safetensors, config and tokenizer.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_catalog_tokenizer(),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=CHATML,
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=32,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    return folder


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
