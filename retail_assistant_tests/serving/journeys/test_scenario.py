"""Journey files: the shipped ones, and what is refused, with the place of the fault."""

from pathlib import Path

import pytest
import yaml

from retail_assistant.serving.journeys.scenario import JourneyError, Suite, load_journeys

GOOD = {
    "kind": "budget",
    "journeys": [
        {
            "id": "one",
            "products": {"a": {"has": ["price"]}},
            "turns": [{"shopper": "How much is {a.name}?", "expect": {"states_price": "a"}}],
        }
    ],
}


def written(folder: Path, content: object) -> Path:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / "budget.yaml").write_text(text)
    return folder


def changed(**of_journey: object) -> dict[str, object]:
    return {"kind": "budget", "journeys": [{**GOOD["journeys"][0], **of_journey}]}  # type: ignore[dict-item]


def test_the_shipped_journeys_are_many_and_of_several_turns(suite: Suite) -> None:
    journeys = suite.journeys
    assert len(journeys) >= 45
    assert sum(len(one.turns) > 1 for _, one in journeys) >= 25
    assert sum(one.hostile for _, one in journeys) >= 6
    kinds = {kind for kind, _ in journeys}
    assert kinds >= {
        "budget", "size", "colour", "audience", "comparison", "impossible", "not_carried",
        "change_of_mind", "more", "follow_up", "suggestions", "details", "small_talk", "hostile",
        "cheapest",
    }  # fmt: skip


def test_a_part_of_the_suite_by_kind_or_id(suite: Suite) -> None:
    chosen = suite.only(["more", "price"])
    assert [one.id for _, one in chosen.journeys] == [
        "price",
        "show_me_more",
        "more_within_a_budget",
    ]
    assert chosen.version != suite.version
    with pytest.raises(JourneyError, match="no journey nonsense; allowed: "):
        suite.only(["nonsense"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("kind: [", r"budget\.yaml cannot be read .*; allowed: YAML"),
        ("- a list", r"budget\.yaml: the file: "),
        ({**GOOD, "author": "me"}, r"author: Extra inputs are not permitted"),
        (changed(turns=[]), r"journey one, turns: "),
        (
            changed(turns=[{"shopper": "Hi", "expect": {"intend": "search"}}]),
            r"journey one, turn 1, expect\.intend: Extra inputs",
        ),
        (
            changed(turns=[{"shopper": "Hi"}, {"shopper": "Hi", "expect": {"intent": "buy"}}]),
            r"journey one, turn 2, expect\.intent\.0: Input should be 'question'",
        ),
        (
            changed(turns=[{"shopper": "What is {b.name}?"}]),
            r"journey one, turn 1, \{b\.name\}: unknown; roles: a",
        ),
        (changed(turns=[{"shopper": "{a.__class__}"}]), r"turn 1, \{a\.__class__\}: unknown"),
        (
            changed(turns=[{"shopper": "Hi", "expect": {"cites": "shown.0"}}]),
            r"turn 1, product shown\.0: unknown; allowed: a, shown\.1",
        ),
        (
            changed(turns=[{"shopper": "Hi", "expect": {"cards": {"fit": "w"}}}]),
            r"turn 1, cards\.fit: no wish w",
        ),
        (
            changed(products={"a": {"cheaper_than": "b"}, "b": {}}),
            r"journey one, products\.a: no role b before it",
        ),
        (
            changed(wishes={"w": {"like": "z", "by": ["nouns"]}}),
            r"journey one, w\.like: no product z; allowed: a",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(JourneyError, match=words):
        load_journeys(written(tmp_path, content))


def test_a_good_file_of_ones_own_is_read(tmp_path: Path) -> None:
    ((kind, journey),) = load_journeys(written(tmp_path, GOOD)).journeys
    assert (kind, journey.id) == ("budget", "one")


def test_a_folder_without_journeys_and_one_name_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="has no journeys"):
        load_journeys(tmp_path)
    written(tmp_path, GOOD)
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({**GOOD, "kind": "more"}))
    with pytest.raises(JourneyError, match="two journeys are called one"):
        load_journeys(tmp_path)
