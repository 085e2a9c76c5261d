"""A search on its way: bounded, the same after a restart, and taught by manifests alone."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_assistant.storage import StorageError
from retail_assistant.training.jobs import StudyError
from retail_assistant.training.searching.progress import (
    RunningSearch,
    current_search,
    find_trial,
)
from retail_assistant.training.searching.report import best_study, trials_plot, trials_table
from retail_assistant.training.studies import load_registry
from retail_assistant_tests.training.searches import BEGUN, begun, end_trial, loss_at, search_of


def reopened(running: RunningSearch) -> RunningSearch:
    """The same search, as another process finds it."""
    found = current_search(running.root, running.search.search)
    assert found is not None
    return found


def to_the_end(running: RunningSearch) -> RunningSearch:
    """Propose and end trials until nothing more is proposed."""
    while proposed := reopened(running).propose(BEGUN):
        for trial in proposed:
            end_trial(running.root, trial, loss_at(trial))
    return running


def test_it_proposes_as_many_as_may_run_and_waits(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(parallel=2))
    first = running.propose(BEGUN)
    assert [trial.number for trial in first] == [0, 1]
    assert running.propose(BEGUN) == []
    end_trial(tmp_path, first[0], 1.0)
    assert [trial.number for trial in running.propose(BEGUN)] == [2]


def test_a_proposal_is_a_job_within_the_space(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(resources={"priority": -1}))
    (trial,) = running.propose(BEGUN)
    assert trial.key == f"small-search-{running.ref.fingerprint[:8]}-000"
    assert trial.job.study == "small-search"
    assert trial.job.hyperparameters == running.search.job(trial.params)
    assert 1e-5 <= trial.job.hyperparameters.learning_rate <= 1e-1
    assert trial.job.resources.priority == -1


def test_what_was_left_open_for_the_plan_stays_open(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of())
    running.propose(BEGUN)
    (trial,) = running.trials()
    assert "processes" not in trial.job.resources.model_fields_set


def test_it_ends_after_its_trials(tmp_path: Path) -> None:
    running = to_the_end(begun(tmp_path, search_of(trials=5)))
    assert len(running.trials()) == 5
    assert running.is_over(BEGUN)
    # Its bounds may be raised: it goes on, and keeps what it knows.
    more = begun(tmp_path, search_of(trials=7))
    assert more.ref == running.ref
    assert not more.is_over(BEGUN)
    assert len(to_the_end(more).trials()) == 7


def test_it_ends_after_its_hours(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(hours=2))
    late = BEGUN + timedelta(hours=1, minutes=45)
    (trial,) = running.propose(late)
    assert trial.job.resources.max_runtime_minutes == 15
    end_trial(tmp_path, trial, 1.0)
    over = BEGUN + timedelta(hours=2)
    assert running.propose(over) == []
    assert running.is_over(over)
    # Begun again, its hours still count from the first time.
    assert begun(tmp_path, search_of(hours=2), now=over).propose(over) == []


def test_a_trial_in_progress_keeps_it_from_being_over(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(trials=1))
    running.propose(BEGUN)
    assert not running.is_over(BEGUN + timedelta(days=1))


def test_trials_differ_from_each_other(tmp_path: Path) -> None:
    """A sampler made anew with the same seed would draw the same point again."""
    running = to_the_end(begun(tmp_path, search_of(trials=6)))
    assert len({trial.params["learning_rate"] for trial in running.trials()}) == 6


@pytest.mark.fault(
    "a search of hyperparameters is broken off",
    "it proposes the same trials again",
)
def test_a_search_that_is_broken_off_proposes_the_same(tmp_path: Path) -> None:
    def points(folder: Path, **fields: Any) -> list[dict[str, Any]]:
        return [trial.params for trial in to_the_end(begun(folder, search_of(**fields))).trials()]

    whole = points(tmp_path / "whole", trials=8)
    broken = tmp_path / "broken"
    first = begun(broken, search_of(trials=8))
    for _ in range(3):
        (trial,) = reopened(first).propose(BEGUN)
        # The process dies between the proposal and its end.
        assert reopened(first).propose(BEGUN) == []
        end_trial(broken, trial, loss_at(trial))
    assert [trial.params for trial in to_the_end(first).trials()] == whole
    assert points(tmp_path / "other", trials=8, seed=11) != whole


def test_it_learns_from_what_trials_reached(tmp_path: Path) -> None:
    """After the random ones, most proposals are nearer to the best rate than those were."""
    running = to_the_end(begun(tmp_path, search_of(trials=30)))
    losses = [loss_at(trial) for trial in running.trials()]
    # Over 4 orders of magnitude, the best in their middle, a random one is 1 away on average.
    assert sum(losses[15:]) / 15 < 0.5 * sum(losses[:10]) / 10
    best = running.best()
    assert best is not None
    assert best.loss == min(losses) < 0.05


def test_a_failed_trial_counts_and_the_search_goes_on(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(trials=2))
    (first,) = running.propose(BEGUN)
    running.fail(first, "out of memory")
    (second,) = running.propose(BEGUN)
    end_trial(tmp_path, second, 0.5)
    assert running.is_over(BEGUN)
    failed, finished = running.outcomes()
    assert (failed.state, failed.reason, failed.loss) == ("failed", "out of memory", None)
    assert (finished.state, finished.loss) == ("finished", 0.5)
    # Repaired by hand: what it reached counts after all.
    end_trial(tmp_path, first, 0.25)
    best = running.best()
    assert best is not None
    assert best.trial == first


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")])
def test_a_trial_without_a_loss_has_failed(tmp_path: Path, loss: float | None) -> None:
    running = begun(tmp_path, search_of())
    (trial,) = running.propose(BEGUN)
    end_trial(tmp_path, trial, loss)
    (outcome,) = running.outcomes()
    assert outcome.state == "failed"
    assert running.best() is None
    assert len(running.propose(BEGUN)) == 1


def test_other_data_or_another_space_begin_anew(tmp_path: Path) -> None:
    first = to_the_end(begun(tmp_path, search_of(trials=1)))
    for other in (
        begun(tmp_path, search_of(trials=1), corpus="b"),
        begun(tmp_path, search_of(seed=1)),
    ):
        assert other.ref != first.ref
        assert other.trials() == []
    # Of the earlier one nothing is lost.
    (trial,) = first.trials()
    assert find_trial(tmp_path, trial.key)[1] == trial


def test_one_process_at_a_time_drives_it(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of())
    with running.driving() as ours, reopened(running).driving() as theirs:
        assert ours
        assert not theirs
    with reopened(running).driving() as ours:
        assert ours


@pytest.mark.parametrize(
    "key", ["", "x", "small-search-00000000-000", "small-search-*-000", "../x-1"]
)
def test_a_trial_that_nobody_proposed_is_refused(tmp_path: Path, key: str) -> None:
    begun(tmp_path, search_of()).propose(BEGUN)
    with pytest.raises(StudyError, match="no trial"):
        find_trial(tmp_path, key)


def test_a_search_that_never_began_is_not_there(tmp_path: Path) -> None:
    assert current_search(tmp_path, "small-search") is None
    running = begun(tmp_path, search_of())
    (running.ref.folder / "search.json").unlink()
    assert current_search(tmp_path, "small-search") is None
    with pytest.raises(StorageError, match="begin the search again"):
        RunningSearch(tmp_path, running.ref)


def test_its_table_has_a_row_a_trial(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of(trials=4))
    for loss in (3.0, None, 1.0, 2.0):
        (trial,) = running.propose(BEGUN)
        end_trial(tmp_path, trial, loss)
    table = trials_table(running.search, running.outcomes())
    assert table["trial"].to_list() == [trial.key for trial in running.trials()]
    assert table["eval_loss"].to_list() == [3.0, None, 1.0, 2.0]
    assert table["best_so_far"].to_list() == [3.0, 3.0, 1.0, 1.0]
    assert table["size"].to_list() == [trial.params["size"] for trial in running.trials()]
    assert table["reason"].to_list() == [None, "its eval_loss is None", None, None]
    assert trials_plot(running.search, table).startswith("![validation loss of the trials")


def test_a_table_without_trials_is_empty(tmp_path: Path) -> None:
    running = begun(tmp_path, search_of())
    table = trials_table(running.search, running.outcomes())
    assert table.is_empty()
    assert {"trial", "eval_loss", "learning_rate", "size"} <= set(table.columns)


def test_the_best_is_a_study_that_trains_nothing_anew(tmp_path: Path) -> None:
    running = to_the_end(begun(tmp_path, search_of(trials=3, base_model="some/model")))
    best = running.best()
    assert best is not None
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "best.yaml").write_text(best_study(running, best))
    job = load_registry(studies).job("small-search-best")
    assert job.base_model == "some/model"
    # What is written into the artefact's identity is the same to the letter.
    assert job.hyperparameters.model_dump_json() == best.trial.job.hyperparameters.model_dump_json()
    assert yaml.safe_load(best_study(running, best))["task"] == "assistant"
