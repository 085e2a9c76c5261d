"""200 bad dialogues among 200 true ones, the same each time: everything is drawn by hashes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from retail_assistant.corpus.dialogues import Dialogue
from retail_assistant.corpus.draws import hash_order, stable_number
from retail_assistant_tests.corpus import planters
from retail_assistant_tests.corpus.free_form import in_free_form
from retail_assistant_tests.corpus.planters import Planter, World

SEED = 7

_TRUE_TEMPLATE = {
    "attribute": 62,
    "overview": 8,
    "alternative": 8,
    "complement": 8,
    "unanswerable": 14,
}
_TRUE_FREE = {
    "attribute": 60,
    "overview": 8,
    "alternative": 8,
    "complement": 8,
    "unanswerable": 16,
}
# Kind, what spoils a dialogue, how many, and which dialogues: `fresh` ones, or `true` ones that are
# screened together with what repeats or gives them away.
_PLANTERS: tuple[tuple[str, Planter, int, str], ...] = (
    ("wrong value", planters.lied_value, 9, "fresh"),
    ("wrong value", planters.other_value, 8, "fresh"),
    ("wrong value", planters.added_value, 7, "fresh"),
    ("wrong value", planters.wrong_second_attribute, 7, "fresh"),
    ("wrong value", planters.denied_value, 3, "fresh"),
    ("wrong value", planters.wrong_detail, 6, "fresh"),
    ("wrong value", planters.wrong_number, 5, "fresh"),
    ("wrong value", planters.answered_in_vain, 3, "fresh"),
    ("wrong value", planters.declined_in_vain, 2, "fresh"),
    ("foreign product", planters.other_subject, 9, "fresh"),
    ("foreign product", planters.suggested_with_code, 7, "fresh"),
    ("foreign product", planters.suggested_by_name, 5, "fresh"),
    ("foreign product", planters.mentioned, 7, "fresh"),
    ("foreign product", planters.other_code, 4, "fresh"),
    ("foreign product", planters.invented, 4, "fresh"),
    ("phone number", planters.phone_number, 12, "fresh"),
    ("e-mail address", planters.email_address, 12, "fresh"),
    ("other personal data", planters.other_personal_data, 10, "fresh"),
    ("duplicate", planters.repeated, 24, "true train"),
    ("leak", planters.asked_in_training, 9, "true recall"),
    ("leak", planters.learned_from, 8, "fresh unseen"),
    ("leak", planters.suggested_from_test, 7, "fresh train"),
    ("unsafe wording", planters.profane, 6, "fresh"),
    ("unsafe wording", planters.biased, 8, "fresh"),
    ("unsafe wording", planters.smuggled, 6, "fresh"),
    ("language", planters.in_another_language, 12, "fresh"),
)


class Planted(NamedTuple):
    """A dialogue, what kind of fault it has ("" for none) and which planter made it."""

    kind: str
    planter: str
    dialogue: Dialogue


def true_dialogues(dialogues: Sequence[Dialogue], world: World) -> list[Planted]:
    """100 template dialogues, and 100 others put into other words."""
    template = _drawn(dialogues, _TRUE_TEMPLATE, "template")
    asked = {_asked(one) for one in template}
    rest = [one for one in dialogues if one.subset != "recall" and _asked(one) not in asked]
    free = _drawn(rest, _TRUE_FREE, "free")
    written = [in_free_form(one, world.lookup.products, SEED) for one in free]
    return [
        *(Planted("", "template", one) for one in template),
        *(Planted("", "free form", one) for one in written),
    ]


def bad_dialogues(
    dialogues: Sequence[Dialogue], true: Iterable[Planted], world: World
) -> list[Planted]:
    """200 bad dialogues; what repeats or gives away does so with one of the `true` ones."""
    kept = [planted.dialogue for planted in true]
    asked = {_asked(one) for one in kept}
    fresh = [one for one in dialogues if one.subset != "recall" and _asked(one) not in asked]
    fresh = [_in_either_form(one, world) for one in _drawn(fresh, {}, "fresh")]
    used: set[str] = set()
    planted: list[Planted] = []
    for kind, planter, count, pool in _PLANTERS:
        candidates = _pool(kept if pool.startswith("true") else fresh, pool.split(" ")[-1])
        ordered = hash_order(candidates, lambda one: one.dialogue_id, planter.__name__, SEED)
        found: list[Dialogue] = []
        for dialogue in ordered:
            if len(found) == count or dialogue.dialogue_id in used:
                continue
            spoilt = planter(dialogue, world)
            if spoilt is not None:
                used.add(dialogue.dialogue_id)
                found.append(spoilt)
        assert len(found) == count, (planter.__name__, len(found))
        planted += [Planted(kind, planter.__name__, one) for one in found]
    return planted


def _asked(dialogue: Dialogue) -> tuple[str | None, str]:
    return dialogue.reference, dialogue.asked_attribute or dialogue.intent


def _drawn(
    dialogues: Sequence[Dialogue], wanted: Mapping[str, int], purpose: str
) -> list[Dialogue]:
    """One dialogue of each asked thing; so many of each intent, where that is said."""
    ordered = hash_order(dialogues, lambda one: one.dialogue_id, purpose, SEED)
    distinct: dict[tuple[str | None, str], Dialogue] = {}
    for one in ordered:
        distinct.setdefault(_asked(one), one)
    if not wanted:
        return list(distinct.values())
    return [
        one
        for intent, count in wanted.items()
        for one in [other for other in distinct.values() if other.intent == intent][:count]
    ]


def _in_either_form(dialogue: Dialogue, world: World) -> Dialogue:
    free = stable_number("form", SEED, dialogue.dialogue_id) % 2
    return in_free_form(dialogue, world.lookup.products, SEED) if free else dialogue


def _pool(dialogues: Sequence[Dialogue], subset: str) -> list[Dialogue]:
    every = subset in ("fresh", "true")
    return [one for one in dialogues if every or one.subset == subset]
