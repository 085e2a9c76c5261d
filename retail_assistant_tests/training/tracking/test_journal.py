"""The journal: what was recorded is there, however the process that wrote it ended."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.training.tracking.journal import Journal, SentState


def kinds(journal: Journal, offset: int = 0) -> list[str]:
    return [record["kind"] for record, _ in journal.records(offset)]


def test_records_come_back_in_order_each_with_the_place_behind_it(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append("start", parameters={"lora_r": 4})
    journal.append("metrics", step=1, values={"loss": 2.5})
    (first, after_first), (second, after_second) = journal.records()
    assert first["parameters"] == {"lora_r": 4}
    assert (second["step"], second["values"]) == (1, {"loss": 2.5})
    assert second["time"] >= first["time"]
    assert kinds(journal, after_first) == ["metrics"]
    assert kinds(journal, after_second) == []
    assert after_second == journal.path.stat().st_size


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_torn_end_costs_only_the_record_that_was_being_written(
    tmp_path_factory: object, cut: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("torn")  # type: ignore[attr-defined]
    journal = Journal.create(folder)
    journal.append("start", parameters={})
    whole = journal.path.read_bytes()
    journal.append("metrics", step=1, values={"loss": 1.0})
    content = journal.path.read_bytes()
    kept = len(whole) + cut % (len(content) - len(whole) + 1)
    journal.path.write_bytes(content[:kept])
    complete = kept == len(content)
    assert kinds(journal) == (["start", "metrics"] if complete else ["start"])
    again = Journal(journal.path)
    again.append("close", status="FINISHED")
    # A record that lacks its line break only is whole, and gets it from the next one.
    whole_record = kept >= len(content) - 1
    assert kinds(again) == ["start", *["metrics"] * whole_record, "close"]
    assert again.status() == "FINISHED"


def test_what_was_sent_is_remembered_and_the_rest_is_pending(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append("start", parameters={})
    journal.append("metrics", step=1, values={"loss": 1.0})
    assert journal.state() == SentState()
    assert journal.pending() == 2
    _, after_first = next(journal.records())
    journal.save_state(SentState(offset=after_first, run_id="r"))
    again = Journal.all(tmp_path)[-1]
    assert again.state().run_id == "r"
    assert again.pending() == 1


def test_a_run_that_goes_on_has_no_end(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append("start", parameters={})
    assert journal.status() is None
    journal.append("close", status="KILLED")
    assert journal.status() == "KILLED"
    journal.append("start", parameters={})
    assert journal.status() is None


def test_journals_of_a_folder_are_in_the_order_of_their_runs(tmp_path: Path) -> None:
    made = [Journal.create(tmp_path).path for _ in range(3)]
    assert [journal.path for journal in Journal.all(tmp_path)] == made
    assert Journal.all(tmp_path / "elsewhere") == []
