"""`retail-assistant champion`: the history and the way back, in a terminal."""

import json
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.evaluation.registry import read_champion
from retail_assistant.settings import get_settings
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]

ANN = ("--by", "Ann [red]", "--reason", "shoppers complain")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Shop:
    """`old` was promoted, then `new`, which is better."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    shop = Shop(get_settings())
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    shop.job("new", answers_of("new"))
    shop.contest()
    return shop


def test_the_history_is_listed_and_the_champion_is_shown(cli: Cli, shop: Shop) -> None:
    listed = cli("champion", "list")
    assert listed.code == 0
    (new,) = [line for line in listed.out.splitlines() if " new " in line]
    assert "*" in new
    assert "100.0% of 80" in new
    assert "75.0% of 80" in listed.out
    events = json.loads(cli("champion", "list", "--json").out)
    assert [event["job"] for event in events] == ["new", "old"]
    assert events[0]["against_champion"]["standing"] == "better"
    assert events[1]["rules"][0]["rule"] == "min_questions"
    shown = cli("champion", "show").out
    for words in ("new (grounding: retrieved)", "2, promotion", "intact", "replaces old: better"):
        assert words in shown
    assert json.loads(cli("champion", "show", "--json").out)["number"] == 2


def test_a_rollback_is_told_to_dagster_and_kept(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    done = cli("champion", "rollback", *ANN)
    assert done.code == 0, done
    assert done.out.startswith("old serves")
    assert read_champion(get_settings()).job == "old"
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert (run.job_name, run.status) == ("decide_champion", dg.DagsterRunStatus.SUCCESS)
    events = json.loads(cli("champion", "list", "--json").out)
    assert (events[0]["kind"], events[0]["by"]) == ("rollback", "Ann [red]")
    assert [event["may_not_serve"] for event in events] == [False, True, False]
    assert "Ann [red]" in cli("champion", "list").out
    allowed = cli("champion", "allow", "new", "--by", "Bo", "--reason", "it was the network")
    assert allowed.code == 0, allowed
    assert "new (new-1) may be promoted again" in allowed.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rollback", *ANN, "--to", "best"), ("no earlier champion is 'best'", "1 (old)")),
        (("rollback", "--by", " ", "--reason", "r"), ("by: ", "at least 1 character")),
        (("allow", "new", "--by", "Ann", "--reason", " "), ("reason: ",)),
        (("allow", "old", *ANN), ("no barred adapter is meant by 'old'",)),
    ],
)
def test_what_cannot_be_done_is_refused(
    cli: Cli, shop: Shop, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(cli("champion", *arguments), *words)
    assert len(shop.champions.events()) == 2


@pytest.mark.fault(
    "The weights of an earlier champion were altered",
    "No rollback to it; the present champion stays",
)
def test_altered_files_are_refused(cli: Cli, shop: Shop) -> None:
    path = shop.root / "artefacts/adapter/old-1/adapter/adapter_model.safetensors"
    path.write_text("other weights")
    assert_refused(cli("champion", "rollback", *ANN), "no rollback to 1 (old)", "altered")
    assert read_champion(get_settings()).job == "new"


def test_before_a_promotion_the_next_step_is_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    get_settings.cache_clear()
    assert cli("champion", "list").code == 0
    assert_refused(cli("champion", "show"), "nothing was promoted yet; `make run`")
