"""YAML from anybody: values or one clear error, never an object, a hang or all of the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.profile import CatalogProfile
from retail_assistant.corpus.knowledge import KnowledgeError, read_knowledge
from retail_assistant.launch.kuberay_template import TemplateError, read_template
from retail_assistant.profiles import ProfileError, load_profile
from retail_assistant.serving.journeys.scenario import JourneyError, load_journeys
from retail_assistant.training.jobs import StudyError
from retail_assistant.training.studies import load_registry
from retail_assistant.yaml_files import MOST_CHARACTERS, YamlError, parsed_yaml

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 20)
)
"""Fewer than 1,000 characters that stand for 4^20 laughs."""
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}], k{n}: 1}}\n"
    for n in range(1, 20)
)

TRICKS = {
    "object": "study: !!python/object/apply:os.system ['touch owned']",
    "name": "study: !!python/name:os.system",
    "module": "study: !!python/module:os",
    "new tag": "study: !retail {a: 1}",
    "laughs": LAUGHS,
    "long laughs": f"a: &a {'ha' * 5_000}\nb: [{', '.join(['*a'] * 2_000)}]",
    "laughs by merging": MERGED,
    "itself": "study: &study [*study]",
    "itself further down": "study: &study {jobs: {a: [*study]}}",
    "deep": "study: " + "[" * 50_000,
    "deep block": "\n".join(f"{' ' * n}a:" for n in range(2_000)),
    "deep by aliases": "a0: &a0 1\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)),
    "key twice": "study: one\nstudy: two",
    "not a number": "learning_rate: .nan",
    "endless": "learning_rate: .inf",
    "endless by digits": "learning_rate: 1.0e+999",
    "many digits": f"seed: {'9' * 5_000}",
    "no day": "seed: 2026-13-45",
    "empty number": 'seed: !!int ""',
    "no truth": "seed: !!bool perhaps",
    "no moment": "seed: !!timestamp soon",
    "list as key": "? [a, b]\n: c",
    "two documents": "a: 1\n---\nb: 2",
    "directive": "%YAML 9.9\n---\na: 1",
    "control character": "study: \x07",
    "too long": f"study: {'x' * MOST_CHARACTERS}",
}  # fmt: skip


@pytest.mark.fault(
    "A study, profile, journey or template has YAML tricks: objects, alias bombs, depth, NaN",
    "One clear error that names the file; nothing is run and memory is bounded",
)
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_tricks_are_one_clear_error(
    trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YamlError) as refused:
        parsed_yaml(trick)
    assert 0 < len(str(refused.value)) <= 300
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "owned").exists()


def study(folder: Path, text: str) -> None:
    (folder / "study.yaml").write_text(text)
    load_registry(folder)


def profile(folder: Path, text: str) -> None:
    (folder / "profile.yaml").write_text(text)
    load_profile(folder / "profile.yaml", CatalogProfile)


def journeys(folder: Path, text: str) -> None:
    (folder / "journeys.yaml").write_text(text)
    load_journeys(folder)


def template(folder: Path, text: str) -> None:
    (folder / "default.yaml").write_text(text)
    read_template(folder, "adapter")


def knowledge(folder: Path, text: str) -> None:
    (folder / "questions.yaml").write_text(text)
    read_knowledge(folder)


@pytest.mark.parametrize("trick", ["laughs", "itself", "deep", "many digits", "no day", "object"])
@pytest.mark.parametrize(
    ("read", "error", "file"),
    [
        (study, StudyError, "study.yaml"),
        (profile, ProfileError, "profile.yaml"),
        (journeys, JourneyError, "journeys.yaml"),
        (template, TemplateError, "default.yaml"),
        (knowledge, KnowledgeError, "questions.yaml"),
    ],
)
@pytest.mark.fault(
    "A study, profile, journey or template has YAML tricks: objects, alias bombs, depth, NaN",
    "One clear error that names the file; nothing is run and memory is bounded",
)
def test_every_file_of_people_is_read_so(
    read: Callable[[Path, str], None],
    error: type[Exception],
    file: str,
    trick: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=file) as refused:
        read(tmp_path, TRICKS[trick])
    assert len(str(refused.value)) < 1_000


def test_a_job_has_no_learning_rate_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="finite"):
        study(tmp_path, "study: s\ndescription: d\njobs: {a: {lora_r: 8, learning_rate: .nan}}")


def test_aliases_and_merging_are_allowed_within_bounds() -> None:
    text = "base: &base {r: 8, rate: 1.0e-4}\njobs: {a: *base, b: {<<: *base, r: 16}}"
    assert parsed_yaml(text)["jobs"] == {"a": {"r": 8, "rate": 1e-4}, "b": {"r": 16, "rate": 1e-4}}
    assert parsed_yaml("") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z", "S"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz-_ "), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_plain_values_come_back(value: Any) -> None:
    assert parsed_yaml(yaml.safe_dump(value)) == value


@given(st.text("[]{}:,&*!<>-?|'\"%@` \n\tab01.~#\x00\u2028"))
def test_any_text_is_values_or_one_error(text: str) -> None:
    try:
        parsed_yaml(text)
    except YamlError as refused:
        assert str(refused)
