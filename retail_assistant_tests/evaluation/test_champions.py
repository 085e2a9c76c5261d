"""The champions' history: promotion, rollback, bars; who is asked what; two at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retail_assistant.evaluation.challenge import ChallengeError
from retail_assistant.evaluation.champion_history import ChampionEvent, PromotionError
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.promotion_policy import PromotionPolicy
from retail_assistant.evaluation.registry import Champion, champion_path, read_champion
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError
from retail_assistant_tests.evaluation.contests import Shop, answers_of

ANN = {"by": "Ann Doe", "reason": "shoppers complain"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(Settings(storage_uri=str(tmp_path / "var")))


@pytest.fixture
def replaced(shop: Shop) -> Shop:
    """`old` was promoted, then `new`, which is better."""
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    shop.job("new", answers_of("new"))
    assert shop.contest().decision.promoted == "new"
    return shop


def kinds(shop: Shop) -> list[tuple[str, str]]:
    return [(event.kind, event.job) for event in shop.champions.events()]


def files(shop: Shop) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shop.champions.folder.glob("0*.json")}


def test_before_a_promotion_there_is_no_champion(shop: Shop) -> None:
    assert shop.champions.settle() is None
    assert shop.champions.events() == []
    with pytest.raises(StorageError, match="nothing was promoted yet; `make run`"):
        read_champion(shop.settings)
    with pytest.raises(PromotionError, match="nothing was promoted yet"):
        shop.champions.roll_back(**ANN)


def test_a_first_promotion_is_kept_with_its_numbers(shop: Shop) -> None:
    ref = shop.job("old", answers_of("old", range(20)))
    outcome = shop.contest()
    serves = read_champion(shop.settings)
    assert serves == outcome.champion
    assert (serves.job, serves.grounding, serves.adapter) == ("old", "retrieved", ref)
    assert serves.base_model == "base"
    assert serves.registered_model == "not registered: the training was not tracked"
    (event,) = shop.champions.events()
    assert (event.kind, event.number, event.previous) == ("promotion", 1, None)
    assert event.by == "the promotion policy"
    assert event.reason == outcome.decision.reason == serves.why
    assert event.policy == PromotionPolicy().model_dump(mode="json")
    assert event.policy_version == PromotionPolicy().version
    assert event.comparison == "old"
    assert {one.metric: one.value for one in event.numbers}["strict_accuracy"] == 0.75
    assert all(rule.passed for rule in event.rules)


def test_a_replacement_names_whom_and_why_and_changes_no_earlier_event(shop: Shop) -> None:
    shop.job("old", answers_of("old", range(20)))
    shop.contest()
    before = files(shop)
    shop.job("new", answers_of("new"))
    shop.contest()
    assert kinds(shop) == [("promotion", "old"), ("promotion", "new")]
    event = shop.champions.events()[-1]
    assert event.previous == "old-1"
    assert event.against_champion is not None
    assert event.against_champion.standing == "better"
    assert files(shop).items() > before.items()


def test_with_nobody_better_the_champion_stays(replaced: Shop) -> None:
    before = files(replaced)
    outcome = replaced.contest()
    assert outcome.decision.promoted is None
    assert outcome.champion is not None
    assert outcome.champion.job == "new"
    assert outcome.decision.reason.startswith("new stays the champion: old: ")
    assert files(replaced) == before


def test_nobody_qualifies_and_nobody_serves(shop: Shop) -> None:
    shop.job("poor", answers_of("poor", range(70)))
    outcome = shop.contest()
    assert outcome.champion is None
    assert shop.champions.events() == []


def test_the_adapter_that_answered_is_promoted_not_the_jobs_newest(shop: Shop) -> None:
    answers = answers_of("old")
    shop.job("old", answers)
    shop.job("old", answers_of("old", range(60)), adapter="old-2")
    shop.jobs["old"] = answers
    outcome = shop.contest()
    assert outcome.champion is not None
    assert outcome.champion.adapter.fingerprint == "old-1"


def test_answers_that_no_adapter_gave_are_not_promoted(shop: Shop) -> None:
    shop.job("old", answers_of("old", range(20)))
    shop.jobs["old"] = answers_of("old", range(10))
    outcome = shop.contest()
    assert outcome.champion is None
    assert "no adapter is known that gave these answers" in outcome.decision.reason


def test_a_champion_that_is_not_compared_is_judged_by_its_own_report(replaced: Shop) -> None:
    shop = replaced
    del shop.jobs["new"], shop.costs["new"]
    shop.job("third", answers_of("third", range(20)))
    with pytest.raises(ChallengeError, match="new, has not answered these questions: materialize"):
        shop.contest()
    outcome = shop.contest(shop.report(answers_of("new"), "new-1"))
    assert outcome.champion is not None
    assert outcome.champion.job == "new"
    # On another catalog's questions it did worse: the third is better there.
    del shop.jobs["old"], shop.costs["old"]
    shop.job("third", answers_of("third", catalog="b"))
    with pytest.raises(ChallengeError, match="other questions"):
        shop.contest(shop.report(answers_of("new"), "new-1"))
    worse = shop.report(answers_of("new", range(20), catalog="b"), "new-1")
    outcome = shop.contest(worse)
    assert outcome.decision.promoted == "third"


def test_a_report_of_another_champion_does_not_count(replaced: Shop) -> None:
    del replaced.jobs["new"], replaced.costs["new"]
    with pytest.raises(ChallengeError, match="has not answered these questions"):
        replaced.contest(replaced.report(answers_of("old"), "old-1"))


def test_a_champion_whose_files_are_gone_is_replaced(replaced: Shop) -> None:
    del replaced.jobs["new"], replaced.costs["new"]
    (replaced.root / "artefacts/adapter/new-1/adapter/adapter_model.safetensors").unlink()
    outcome = replaced.contest()
    assert outcome.decision.promoted == "old"
    assert "new, cannot be asked any more" in outcome.decision.reason


def test_a_rollback_leads_back_and_bars_who_leaves(replaced: Shop) -> None:
    serves = replaced.champions.roll_back(**ANN)
    assert (serves.job, serves.adapter.fingerprint) == ("old", "old-1")
    assert read_champion(replaced.settings) == serves
    event = replaced.champions.events()[-1]
    assert (event.kind, event.by, event.reason) == ("rollback", "Ann Doe", "shoppers complain")
    assert (event.previous, event.barred) == ("new-1", "new-1")
    # From the same comparison the barred one is not promoted again ...
    outcome = replaced.contest()
    assert outcome.champion is not None
    assert outcome.champion.job == "old"
    assert "rolled back by Ann Doe" in outcome.decision.reason
    assert "`retail-assistant champion allow new-1`" in outcome.decision.reason
    # ... another adapter of its job is; and so is this one once a person says so.
    replaced.champions.allow("new", by="Bo", reason="it was the network")
    assert replaced.contest().decision.promoted == "new"
    assert kinds(replaced)[2:] == [("rollback", "old"), ("allowance", "new"), ("promotion", "new")]


def test_another_adapter_of_a_barred_job_may_be_promoted(replaced: Shop) -> None:
    replaced.champions.roll_back(**ANN)
    replaced.job("new", answers_of("new", [3]), adapter="new-2")
    outcome = replaced.contest()
    assert outcome.champion is not None
    assert outcome.champion.adapter.fingerprint == "new-2"


def test_a_rollback_goes_to_the_one_that_is_named(replaced: Shop) -> None:
    replaced.job("best", answers_of("best"), seconds=10)
    assert replaced.contest().decision.promoted == "best"
    assert replaced.champions.target().job == "new"
    assert replaced.champions.roll_back("old", **ANN).job == "old"
    with pytest.raises(PromotionError, match=r"no rollback to 3 .best.: it was rolled back by Ann"):
        replaced.champions.roll_back("3", **ANN)
    assert replaced.champions.roll_back("2", **ANN).job == "new"
    # Two are barred now, and the third serves.
    with pytest.raises(PromotionError, match=r"no earlier champion to go back to.*all barred"):
        replaced.champions.roll_back(**ANN)


@pytest.mark.parametrize(
    ("to", "by", "reason", "words"),
    [
        ("nobody", "Ann", "r", "no earlier champion is 'nobody'; allowed: 1 .old."),
        ("new", "Ann", "r", "no earlier champion is 'new'"),
        ("", " ", "r", "by: "),
        ("", "Ann", "", "reason: "),
    ],
)
def test_a_rollback_that_cannot_be_done_changes_nothing(
    replaced: Shop, to: str, by: str, reason: str, words: str
) -> None:
    before = files(replaced)
    with pytest.raises(PromotionError, match=words):
        replaced.champions.roll_back(to, by=by, reason=reason)
    assert files(replaced) == before
    assert read_champion(replaced.settings).job == "new"


@pytest.mark.parametrize(
    "altered",
    ["artefacts/adapter/old-1/adapter/adapter_model.safetensors",
     "artefacts/adapter/old-1/manifest.json",
     "artefacts/base_model/base/model.safetensors"],
)  # fmt: skip
def test_no_rollback_to_altered_files(replaced: Shop, altered: str) -> None:
    path = replaced.root / altered
    path.write_text(path.read_text() + " ")
    with pytest.raises(PromotionError, match=r"no rollback to 1 .old.: .* altered"):
        replaced.champions.roll_back(**ANN)
    assert read_champion(replaced.settings).job == "new"
    assert len(replaced.champions.events()) == 2


def test_what_is_allowed_must_be_barred(replaced: Shop) -> None:
    with pytest.raises(PromotionError, match="no barred adapter is meant by 'new'; barred: none"):
        replaced.champions.allow("new", by="Ann", reason="r")
    replaced.champions.roll_back(**ANN)
    for unknown in ("old", ""):
        with pytest.raises(PromotionError, match=r"barred: new .new-1."):
            replaced.champions.allow(unknown, by="Ann", reason="r")


@pytest.mark.fault(
    "two promotions at once",
    "one wins; the other is told who became the champion meanwhile, and what to do",
)
def test_of_two_promotions_at_once_one_wins(shop: Shop) -> None:
    for name in ("a", "b"):
        shop.job(name, answers_of(name, [1] if name == "a" else [2]))
    comparison = shop.compare()
    both = []
    for name in ("a", "b"):
        other = Shop(shop.settings)
        other.jobs, other.costs = {name: shop.jobs[name]}, {name: shop.costs[name]}
        both.append(other)
    assert comparison.folder.is_dir()
    decided = [other.compare() for other in both]
    outcomes = [promote(other, ref) for other, ref in zip(both, decided, strict=True)]
    with ThreadPoolExecutor(2) as pool:
        ended = [one.exception() for one in [pool.submit(call) for call in outcomes]]
    assert sorted(type(one).__name__ for one in ended) == ["NoneType", "PromotionError"]
    (event,) = shop.champions.events()
    assert read_champion(shop.settings).job == event.job
    (lost,) = [one for one in ended if one is not None]
    assert f"{event.job} became the champion meanwhile: materialize champion again" in str(lost)


def promote(shop: Shop, comparison: object) -> object:
    """A promotion, decided while nobody served, that only has to be carried out."""
    from retail_assistant.evaluation.archive import read_comparison
    from retail_assistant.evaluation.candidates import answering_adapter
    from retail_assistant.evaluation.promotion import Candidates, decide

    (name,) = shop.jobs
    found = read_comparison(comparison.folder)  # type: ignore[attr-defined]
    decision = decide(Candidates(found), PromotionPolicy())
    answering = answering_adapter(shop.root, name, shop.jobs[name])
    assert answering is not None
    assert decision.promoted == name

    def call() -> Champion:
        champions = Champions(shop.settings)
        return champions.promote(decision, answering, instead_of=None, comparison=name, numbers=())

    return call


@pytest.mark.fault(
    "a promotion is written down and the pointer not moved",
    "whoever looks next moves it",
)
def test_what_a_crash_left_undone_is_done(replaced: Shop) -> None:
    """The event was written, the pointer not moved."""
    last = replaced.champions.events()[-1]
    pointer = champion_path(replaced.settings)
    old = read_champion(replaced.settings).model_copy(update={"job": "old", "event": 1})
    for left in (old.model_dump_json(), None):
        pointer.unlink() if left is None else pointer.write_text(left)
        serves = replaced.champions.settle()
        assert serves is not None
        assert (serves.job, serves.event) == ("new", last.number)
        assert read_champion(replaced.settings) == serves


def test_a_champion_from_before_the_history_is_its_first_entry(shop: Shop) -> None:
    ref = shop.job("old", answers_of("old", range(20)))
    earlier = Champion(
        job="old", grounding="retrieved", adapter=ref, base_model="base",
        registered_model="retail-assistant/7", why="it was the best",
    )  # fmt: skip
    champion_path(shop.settings).write_text(earlier.model_dump_json(exclude={"event"}))
    assert read_champion(shop.settings) == earlier
    shop.job("new", answers_of("new"))
    assert shop.contest().decision.promoted == "new"
    assert kinds(shop) == [("adoption", "old"), ("promotion", "new")]
    assert shop.champions.events()[0].reason.startswith("it was the best (found at its place")
    assert shop.champions.roll_back(**ANN).job == "old"


def test_a_damaged_event_is_named(replaced: Shop) -> None:
    path = replaced.champions.folder / "000001-promotion.json"
    path.write_text("{")
    with pytest.raises(StorageError, match=r"000001-promotion.json is damaged"):
        replaced.champions.settle()


def test_a_storage_that_was_moved_still_rolls_back(replaced: Shop, tmp_path: Path) -> None:
    moved = replaced.root.rename(tmp_path / "elsewhere")
    champions = Champions(Settings(storage_uri=str(moved)))
    serves = champions.roll_back(**ANN)
    assert serves.adapter.folder == moved / "artefacts" / "adapter" / "old-1"


@pytest.mark.fault(
    "the champions' history was written by a later version",
    "it is read; what is not known is left alone",
)
def test_an_event_reads_what_a_later_version_adds() -> None:
    known = {
        "number": 1, "kind": "promotion", "at": "2026-11-01T00:00:00Z", "by": "a", "reason": "r",
        "job": "j", "grounding": "none", "adapter": "f", "folder": "x", "base_model": "b",
        "mood": "good",
    }  # fmt: skip
    assert ChampionEvent.model_validate(known).job == "j"
