"""Names of a grid's jobs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.training.grid import expand_grid, short
from retail_assistant.training.studies import JOB_NAME


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (16, "16"),
        (2e-4, "2e-4"),
        ("2e-4", "2e-4"),
        (1.5e-5, "1.5e-5"),
        (0.05, "0.05"),
        (1.0, "1"),
        (0.0, "0"),
        (True, "on"),
        (False, "off"),
        ("all-linear", "all-linear"),
        ("retrieved", "retrieved"),
        (["q_proj", "v_proj"], "q-v"),
        (None, "none"),
    ],
)
def test_a_value_is_short_in_a_name(value: Any, expected: str) -> None:
    assert short(value) == expected


@given(
    st.floats(min_value=1e-9, max_value=0.1),
    st.integers(1, 512),
    st.sampled_from(["all-linear", "attention", ["q_proj", "v_proj"]]),
)
def test_names_are_partition_keys(rate: float, rank: int, targets: Any) -> None:
    grid = {"learning_rate": [rate], "lora_r": [rank], "target_modules": [targets]}
    (name,) = expand_grid(grid, "study")
    assert JOB_NAME.fullmatch(name)


def test_the_last_axis_changes_fastest() -> None:
    made = expand_grid({"a": [1, 2], "b": [3, 4]}, "s")
    assert list(made) == ["s-1-3", "s-1-4", "s-2-3", "s-2-4"]
    assert made["s-2-3"] == {"a": 2, "b": 3}
