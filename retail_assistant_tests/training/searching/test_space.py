"""A search's file: what is wrong in it is named, and every point of its space is a valid job."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.settings import SHIPPED_STUDIES
from retail_assistant.training.jobs import HyperparameterJob, StudyError
from retail_assistant.training.searching.space import load_search
from retail_assistant.training.studies import load_registry
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.training.searches import search_content, search_of

RATE = {"kind": "float", "low": 1e-5, "high": 1e-3, "log": True}
RANK = {"kind": "int", "low": 1, "high": 64}
FIXED = {"lora_r": 8, "lora_alpha": 16}


@given(st.floats(1e-5, 1e-1), st.sampled_from(["r4", "r8"]))
def test_a_point_is_a_job(rate: float, size: str) -> None:
    job = search_of().job({"learning_rate": rate, "size": size})
    rank = int(size[1:])
    assert job == HyperparameterJob(lora_r=rank, lora_alpha=2 * rank, learning_rate=rate, epochs=1)


def test_a_choice_keeps_lists_and_truth_values() -> None:
    space = {
        "target_modules": {"kind": "choice", "values": ["all-linear", ["q_proj", "v_proj"]]},
        "packing": {"kind": "choice", "values": [True, False]},
        "learning_rate": RATE,
    }
    search = search_of(space=space, defaults=FIXED)
    job = search.job({"target_modules": "q-v", "packing": "on", "learning_rate": 1e-4})
    assert (job.target_modules, job.packing) == (["q_proj", "v_proj"], True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"search": "Big search"}, "search='Big search'; allowed: ^[a-z0-9]"),
        ({"trials": 0}, "trials=0: Input should be greater than or equal to 1"),
        ({"hours": 0}, "hours=0: Input should be greater than 0"),
        ({"parallel": 0}, "parallel=0: Input should be greater than or equal to 1"),
        ({"objective": "accuracy"}, "objective='accuracy': Input should be 'eval_loss'"),
        ({"task": "domain_text"}, "task='domain_text'"),
        ({"space": {}}, "space={}: Dictionary should have at least 1 item"),
        ({"pruner": "median"}, "pruner='median': Extra inputs are not permitted; allowed: search"),
        ({"space": {"learning_rate": {"kind": "normal"}}}, "'float', 'int', 'choice'"),
        (
            {"space": {"learning_rate": RATE | {"low": 1.0}}},
            "low=1, high=0.001; allowed: low below",
        ),
        ({"space": {"learning_rate": RATE | {"low": 0.0}}}, "low=0 with log; allowed: above 0"),
        ({"space": {"size": {"kind": "choice", "values": ["a", "a"]}}}, "two are the same"),
        ({"space": {"size": {"kind": "choice", "values": "a"}}}, "values='a'; allowed: a list"),
        ({"space": {"size": {"kind": "choice", "values": ["a"]}}}, "at least 2 items"),
        ({"defaults": {"learning_rate": 1e-4}}, "space.learning_rate: learning_rate is set else"),
        ({"space": {"seed": RANK}}, "space.seed: seed would be chosen by luck; allowed: in def"),
        ({"space": {"max_seq_length": RANK}}, "max_seq_length decides which validation rows"),
        ({"space": {"lerning_rate": RATE}, "defaults": FIXED}, "space at {'lerning_rate': 1e-05}"),
        (
            {"space": {"learning_rate": RATE | {"high": 2.0}}, "defaults": FIXED},
            "space at {'learning_rate': 2.0}: learning_rate=2.0: Input should be less than",
        ),
        (
            {"space": {"learning_rate": RATE}, "defaults": FIXED | {"evaluations": 0}},
            "evaluations=0; allowed: at least 1",
        ),
        ({"resources": {"gpus": 1}}, "resources.gpus=1: Extra inputs"),
    ],
)
def test_a_wrong_search_is_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_search("file.yaml", search_content(**fields))
    assert str(caught.value).startswith("file.yaml: ")
    assert reason in str(caught.value)


def test_contradictions_within_the_space_are_found() -> None:
    """Each value alone is fine; it is two of them together that no job may have."""
    space = {
        "learning_rate": RATE,
        "attention": {"kind": "choice", "values": ["sdpa", "eager"]},
        "padding_free": {"kind": "choice", "values": [False, True]},
    }
    with pytest.raises(StudyError, match="attention='eager' with padding_free"):
        search_of(space=space, defaults=FIXED)


def test_bounds_and_words_are_no_part_of_what_is_searched() -> None:
    first = search_of()
    assert (
        first.fingerprint == search_of(trials=50, hours=9, parallel=3, description="x").fingerprint
    )
    other_space = search_content()["space"] | {"learning_rate": RATE}
    for changed in ({"seed": 1}, {"defaults": {"epochs": 2}}, {"space": other_space}):
        assert search_of(**changed).fingerprint != first.fingerprint


def test_a_search_stands_beside_studies(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search_content()))
    registry = load_registry(SHIPPED_STUDIES, tmp_path)
    assert registry.search("small-search") == search_of()
    with pytest.raises(StudyError, match=r"no search 'big'; allowed: .*small-search"):
        registry.search("big")


def test_a_search_of_a_known_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search_content(search="retail")))
    with pytest.raises(StudyError, match="study 'retail' exists in another file already"):
        load_registry(SHIPPED_STUDIES, tmp_path)


@pytest.mark.parametrize("name", ["search.yaml", "search-resources.yaml"])
def test_the_examples_load(name: str) -> None:
    path = REPOSITORY / "docs" / "examples" / name
    assert load_search(str(path), yaml.safe_load(path.read_text())).description
