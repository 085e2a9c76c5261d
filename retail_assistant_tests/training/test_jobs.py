"""Hyperparameter jobs: contradictions are refused, with field, value and what is allowed."""

from typing import Any

import pytest
from pydantic import ValidationError

from retail_assistant.training.jobs import HyperparameterJob, StudyError, load_job

GOOD_JOB: dict[str, Any] = {"lora_r": 8, "lora_alpha": 16, "learning_rate": 2e-4}


@pytest.mark.parametrize(
    ("values", "refused", "allowed"),
    [
        (
            {"attention": "eager", "padding_free": True},
            "attention='eager' with padding_free",
            "sdpa",
        ),
        ({"evaluations": 0, "keep_best": True}, "evaluations=0 with keep_best", "at least 1"),
        (
            {"evaluations": 0, "early_stopping_patience": 2},
            "evaluations=0 with early_stopping_patience",
            "at least 1",
        ),
        ({"stages": ["domain"]}, "stages=[domain]", "[instruction] or [domain, instruction]"),
        ({"stages": ["instruction", "domain"]}, "stages=[instruction, domain]", "[instruction] or"),
        ({"stages": []}, "stages=[]", "[instruction] or [domain, instruction]"),
        ({"domain_epochs": 2}, "domain_epochs=2 without the stage domain", "stages: [domain"),
        ({"domain_learning_rate": 1e-5}, "domain_learning_rate=1e-05 without the", "stages: [dom"),
        ({"target_modules": "q_proj"}, "target_modules='q_proj'", "all-linear, attention, or a"),
        ({"target_modules": []}, "target_modules=[]", "a list of names"),
        ({"target_modules": ["q_proj", 7]}, "target_modules=['q_proj', 7]", "a list of names"),
        ({"target_modules": ["lm_head"]}, "target_modules=['lm_head']", "without lm_head"),
        ({"early_stopping_patience": 0}, "early_stopping_patience=0", "greater than or equal to 1"),
        ({"evaluations": -1}, "evaluations=-1", "greater than or equal to 0"),
        ({"attention": "flash"}, "attention='flash'", "'flash_attention_2'"),
        ({"gradient_checkpointing": "maybe"}, "gradient_checkpointing='maybe'", "'auto', 'on' or"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0", "equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], refused: str, allowed: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_job("here", GOOD_JOB | values, "assistant")
    message = str(caught.value)
    assert message.startswith(f"here: {refused}")
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "values",
    [
        {"attention": "sdpa", "padding_free": True},
        {"attention": "eager", "packing": False},
        {"evaluations": 0},
        {"stages": ["domain", "instruction"], "domain_epochs": 2, "domain_learning_rate": 1e-5},
        {"target_modules": "attention"},
        {"target_modules": ["q_proj", "mlp.up_proj"]},
    ],
)
def test_what_can_be_is_kept(values: dict[str, Any]) -> None:
    job = load_job("here", GOOD_JOB | values, "assistant")
    assert job.model_dump(include=set(values)) == values


@pytest.mark.parametrize(
    ("values", "keeps"),
    [({}, False), ({"keep_best": True}, True), ({"early_stopping_patience": 3}, True)],
)
def test_early_stopping_keeps_the_best(values: dict[str, Any], keeps: bool) -> None:
    assert HyperparameterJob(**GOOD_JOB, **values).keeps_best is keeps


def test_a_default_that_is_written_out_changes_nothing() -> None:
    """Both are written into the artefact's identity: 1 and 1.0 would be two."""
    written = {"epochs": 1, "domain_epochs": 1, "lora_dropout": 0, "max_grad_norm": 1}
    plain, full = HyperparameterJob(**GOOD_JOB), HyperparameterJob(**GOOD_JOB, **written)
    assert plain.model_dump_json() == full.model_dump_json()


def test_a_job_survives_its_way_into_a_process() -> None:
    job = HyperparameterJob(**GOOD_JOB, stages=["domain", "instruction"], domain_epochs=2)
    assert HyperparameterJob.model_validate_json(job.model_dump_json()) == job


def test_a_job_is_not_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        HyperparameterJob(**GOOD_JOB).lora_r = 4  # type: ignore[misc]


def test_every_field_says_what_it_is() -> None:
    for name, field in HyperparameterJob.model_fields.items():
        assert field.description, name
