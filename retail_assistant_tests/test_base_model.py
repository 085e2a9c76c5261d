"""Base models from a folder: laid out as safetensors, described, refused where they are unfit."""

import json
import pickle
import re
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
from retail_assistant.training.merge import merge
from retail_assistant_tests.evaluation.adapters import save_adapter


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


@pytest.mark.fault(
    "A model folder brings pickles or Python code of its own (auto_map)",
    "Neither is run, copied or loaded; a model that needs its code is refused",
)
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


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
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


class Planted:
    """Unpickled, it leaves a file: what a pickle in a model folder may do, and worse."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)


@pytest.fixture
def hostile(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model to be made hostile."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "hostile"))


CODE = """
from pathlib import Path
Path("owned").touch()
from transformers import LlamaConfig
class PlantedConfig(LlamaConfig):
    model_type = "planted"
"""


@pytest.mark.fault(
    "A model folder brings pickles or Python code of its own (auto_map)",
    "Neither is run, copied or loaded; a model that needs its code is refused",
)
def test_pickles_and_code_stay_where_they_are(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.chdir(tmp_path)
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin"):
        (hostile / name).write_bytes(pickle.dumps(Planted(tmp_path / "owned")))
    (hostile / "configuration_planted.py").write_text(CODE)
    config = json.loads((hostile / "config.json").read_text())
    auto_map = {"AutoConfig": "configuration_planted.PlantedConfig"}
    (hostile / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    lay_out(str(hostile), tmp_path / "model")
    read_facts("hostile", "1", "unknown", tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False)
    AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=False)
    laid_out = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert laid_out <= {".safetensors", ".json", ".jinja"}
    (hostile / "config.json").write_text(
        json.dumps(config | {"auto_map": auto_map, "model_type": "planted"})
    )
    lay_out(str(hostile), tmp_path / "other")
    with pytest.raises(BaseModelError, match=r"'planted'.*auto_map.*allowed: kinds that"):
        read_facts("hostile", "1", "unknown", tmp_path / "other")
    assert not (tmp_path / "owned").exists()


@pytest.mark.fault(
    "A model folder points elsewhere for its weights: an adapter, or shards outside the folder",
    "It is refused before anything is loaded",
)
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("adapter_config.json", '{"base_model_name_or_path": "evil/model"}', "is an adapter"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"w": "../../secret.safetensors"}}',
            "weights in '../../secret.safetensors'; allowed:",
        ),
        ("model.safetensors.index.json", '{"weight_map": {"w": "/dev/zero"}}', "'/dev/zero'"),
        ("model.safetensors.index.json", '{"weight_map": {"w": "pytorch_model.bin"}}', "model.bin"),
        ("model.safetensors.index.json", '{"weight_map": {"w": "away.safetensors"}}', "'away"),
        ("model.safetensors.index.json", '{"weight_map": [1]}', "is damaged"),
        ("model.safetensors.index.json", "{", "is damaged"),
    ],
)
def test_weights_from_elsewhere_are_refused(
    hostile: Path, tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (hostile / name).write_text(content)
    (hostile / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "owned")))
    for refused_by in (source_version, lambda given: lay_out(given, tmp_path / "model")):
        with pytest.raises(BaseModelError, match=re.escape(reason)):
            refused_by(str(hostile))
    assert not (tmp_path / "owned").exists()
    assert not list((tmp_path / "model").glob("*"))


@pytest.mark.fault(
    "A model's chat template tries to run Python",
    "Its sandbox ends it with an error, and nothing is run",
)
@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(messages[0]) }}",
    ],
)
def test_a_chat_template_runs_nothing(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    from jinja2.exceptions import SecurityError, UndefinedError
    from transformers import AutoTokenizer

    from retail_assistant.corpus.encoding import Encoder

    monkeypatch.chdir(tmp_path)
    (hostile / "chat_template.jinja").write_text(template)
    lay_out(str(hostile), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=False)
    with pytest.raises((SecurityError, UndefinedError)):
        Encoder(tokenizer, "chat").prompt([{"role": "user", "content": "Red kurta?"}])
    assert not (tmp_path / "owned").exists()


@pytest.mark.fault(
    "A model folder brings pickles or Python code of its own (auto_map)",
    "Neither is run, copied or loaded; a model that needs its code is refused",
)
def test_an_adapter_s_pickle_is_not_run(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    save_adapter(tiny_model_folder, adapter, seed=1)
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "owned")))
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        merge(tiny_model_folder, adapter, tmp_path / "merged")
    assert not (tmp_path / "owned").exists()
