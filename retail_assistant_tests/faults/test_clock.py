"""A clock that somebody sets while work goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retail_assistant.evaluation.champion_history import ChampionEvent
from retail_assistant.launch import workload
from retail_assistant.settings import Settings
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.launch.conftest import MakeSpec, sample_spec

__all__ = ["sample_spec"]


class ClockPutBack(datetime):
    """Each look at it shows a day less."""

    looks = 0

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        cls.looks += 1
        return datetime(2026, 11, 20, tzinfo=UTC) - timedelta(days=cls.looks)


@pytest.mark.fault(
    "the clock is put back while heavy work runs",
    "its seconds and its cost are those that it took",
)
def test_seconds_do_not_follow_the_clock(
    sample_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "datetime", ClockPutBack)
    spec = sample_spec()
    spec.folder.mkdir(parents=True)

    manifest = workload.Workload(spec, None).finish()

    assert timedelta(0) <= manifest.finished - manifest.started < timedelta(hours=1)


@pytest.mark.fault(
    "the clock is put back between two promotions",
    "the model that was promoted last serves, and the history keeps its order",
)
def test_a_promotion_after_the_clock_was_put_back(tmp_path: Path) -> None:
    shop = Shop(Settings(storage_uri=str(tmp_path / "var")))
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    (path,) = shop.champions.folder.glob("0*.json")
    event = ChampionEvent.model_validate_json(path.read_text())
    later = event.at + timedelta(days=1)
    path.write_text(event.model_copy(update={"at": later}).model_dump_json())

    shop.job("new", answers_of("new"))
    shop.contest()

    champion = shop.champions.current()
    assert champion is not None
    assert champion.job == "new"
    assert [one.job for one in shop.champions.events()] == ["old", "new"]
    assert shop.champions.events()[-1].at > later
