"""Evaluations and checkpoints stand at even distances, the last at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.training.fitting.arguments import stage_settings
from retail_assistant.training.fitting.milestones import evenly
from retail_assistant_tests.training.trainings import JOB


@pytest.mark.parametrize(
    ("points", "steps", "expected"),
    [(1, 5, {5}), (2, 10, {5, 10}), (4, 10, {2, 5, 8, 10}), (4, 3, {1, 2, 3}), (9, 1, {1})],
)
def test_a_stage_is_cut_into_equal_parts(points: int, steps: int, expected: set[int]) -> None:
    assert evenly(points, steps) == expected


@given(points=st.integers(1, 50), steps=st.integers(1, 10_000))
def test_the_last_step_is_always_one_of_them(points: int, steps: int) -> None:
    found = sorted(evenly(points, steps))
    assert found[-1] == steps
    assert found[0] >= 1
    assert len(found) <= points
    gaps = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert max(gaps) - min(gaps) <= 1 or steps < points


@pytest.mark.parametrize(
    ("epochs", "evaluations", "expected"), [(1, 1, 1), (3, 2, 6), (0.5, 1, 1), (2, 0, 0)]
)
def test_evaluations_are_counted_by_epoch(epochs: float, evaluations: int, expected: int) -> None:
    job = JOB.model_copy(update={"epochs": epochs, "evaluations": evaluations})
    assert stage_settings(job, "instruction", can_evaluate=True).evaluations == expected
    assert stage_settings(job, "instruction", can_evaluate=False).evaluations == 0


def test_the_domain_stage_has_its_own_rate_and_is_not_evaluated() -> None:
    job = JOB.model_copy(
        update={
            "stages": ["domain", "instruction"],
            "domain_epochs": 3,
            "keep_best": True,
            "early_stopping_patience": 1,
        }
    )
    domain = stage_settings(job, "domain", can_evaluate=False)
    assert (domain.epochs, domain.learning_rate, domain.evaluations) == (3, 1e-3, 0)
    assert not domain.keeps_best
    assert domain.patience is None
    other = job.model_copy(update={"domain_learning_rate": 5e-3})
    assert stage_settings(other, "domain", can_evaluate=False).learning_rate == 5e-3
    assert stage_settings(other, "instruction", can_evaluate=True).learning_rate == 1e-3
