"""SIGTERM: remembered while a training runs, obeyed at once at other times."""

import os
import signal
from collections.abc import Iterator

import pytest

from retail_assistant.training.fitting.preemption import Preemption


@pytest.fixture
def preemption() -> Iterator[Preemption]:
    before = signal.getsignal(signal.SIGTERM)
    yield Preemption.listening()
    signal.signal(signal.SIGTERM, before)


def told() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_a_training_the_process_ends_at_once(preemption: Preemption) -> None:
    with pytest.raises(SystemExit) as ended:
        told()
    assert ended.value.code == 143


def test_a_training_comes_to_the_end_of_its_step_first(preemption: Preemption) -> None:
    reached = []
    with pytest.raises(SystemExit) as ended, preemption.deferred():
        told()
        told()
        assert preemption.asked
        reached.append("the step's end")
    assert reached
    assert ended.value.code == 143


def test_what_another_process_was_told_ends_this_one_too(preemption: Preemption) -> None:
    with pytest.raises(SystemExit) as ended, preemption.deferred():
        preemption.agreed = True
    assert ended.value.code == 143


def test_a_training_that_is_left_alone_goes_on(preemption: Preemption) -> None:
    with preemption.deferred():
        pass
    assert not preemption.asked


def test_an_error_of_the_training_is_told_before_its_end(preemption: Preemption) -> None:
    with pytest.raises(ValueError, match="broken"), preemption.deferred():
        told()
        raise ValueError("broken")
