"""Model cards: complete, readable by the hub, and safe whatever the catalog says."""

import json
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.storage import write_atomically
from retail_assistant.training.model_card import (
    ModelCardFacts,
    Sample,
    card_facts,
    card_text,
    write_model_card,
)

NASTY = (
    "<script>alert(1)</script> | a | b |\n\n# Heading\n---\n[x](http://e.example) "
    "![i](http://e.example/i.png) `code` **bold** {{ 7 * 7 }} <!-- gone -->"
)


def facts(**changes: Any) -> ModelCardFacts:
    given: dict[str, Any] = {
        "fingerprint": "0123abcd",
        "job": "job-a",
        "study": "retail",
        "base_model": "small-model",
        "base_licence": "apache-2.0",
        "inputs": {"prompt_corpus": "c" * 64, "base_model": "b" * 20},
        "hyperparameters": {"lora_r": 8, "learning_rate": 2e-4, "quantization": "4bit"},
        "metrics": {"train_loss": 0.1234567, "train_tokens": 20_300, "unheard_of": 1},
    }
    return ModelCardFacts(**given | changes)


def tokens(text: str) -> list[Any]:
    from markdown_it import MarkdownIt

    found = []
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        found += [block, *(block.children or [])]
    return found


def test_the_hub_reads_the_header(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(write_model_card(tmp_path, facts())).data.to_dict()
    assert data["base_model"] == "small-model"
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "peft"
    unknown = ModelCard.load(write_model_card(tmp_path, facts(base_licence="unknown")))
    assert unknown.data.to_dict()["license"] == "other"


def test_a_card_tells_data_hyperparameters_measures_licence_and_limits(tmp_path: Path) -> None:
    text = card_text(write_model_card(tmp_path, facts()))
    for told in ("c" * 64, "0123abcd", "job-a", "lora", "0.0002", "0.1235", "20,300"):
        assert told in text
    for heading in ("Intended use", "Limits", "Licence", "Data", "Hyperparameters", "Measured"):
        assert f"\n## {heading}\n" in text
    assert "unheard" not in text


def test_a_merged_model_says_that_it_was_trained_on_fewer_bits(tmp_path: Path) -> None:
    merged = card_text(write_model_card(tmp_path, facts(kind="merged")))
    adapter = card_text(write_model_card(tmp_path, facts()))
    said = "The adapter was trained on the base in 4bit"
    assert said in merged
    assert said not in adapter


@pytest.mark.parametrize("where", ["samples", "job", "hyperparameters", "base_model", "inputs"])
@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_text_of_a_catalog_stays_text(tmp_path: Path, where: str) -> None:
    given: dict[str, Any] = {
        "samples": (Sample(prompt=NASTY, answer=NASTY),),
        "job": NASTY,
        "hyperparameters": {"note": NASTY},
        "base_model": NASTY,
        "inputs": {NASTY: NASTY},
    }
    plain = tokens(card_text(write_model_card(tmp_path / "plain", facts(job="x"))))
    text = card_text(write_model_card(tmp_path / "nasty", facts(**{where: given[where]})))
    shown = tokens(text)
    kinds = {token.type for token in shown}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline", "hr"}
    assert "{{ 7 \\* 7 }}" in text
    headings = [token for token in shown if token.type == "heading_open"]
    expected = [token for token in plain if token.type == "heading_open"]
    assert len(headings) == len(expected) + (where == "samples")
    cells = {"th_open", "td_open"}
    per_row = {token.type for token in plain} & cells
    assert per_row <= kinds


def test_facts_come_from_the_specification_and_the_base_models_own(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "model").mkdir(parents=True)
    spec = LaunchSpec(
        name="adapter",
        module="m",
        config={"task": "product_description", "hyperparameters": {"lora_r": 4}},
        inputs={"prompt_corpus": "c", "base_model": "b"},
        paths={"base_model": base / "model"},
        code_version="1",
        root=tmp_path,
        tracking={"uri": "u", "tag.job": "job-a", "tag.study": "retail"},
    )
    unknown = card_facts(spec, {"steps": 3})
    assert (unknown.base_licence, unknown.base_revision) == ("unknown", "b")
    assert (unknown.job, unknown.study, unknown.task) == ("job-a", "retail", "product_description")
    write_atomically(
        base / "facts.json",
        json.dumps({"name": "small", "revision": "r1", "licence": "gemma", "parameters": 5}),
    )
    known = card_facts(spec, {"steps": 3})
    assert (known.base_model, known.base_revision, known.base_licence) == ("small", "r1", "gemma")
    assert known.hyperparameters == {"lora_r": 4}
    assert known.fingerprint == spec.fingerprint
