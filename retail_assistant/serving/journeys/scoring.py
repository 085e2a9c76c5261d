"""What is right and wrong in a conversation."""

from collections.abc import Iterator, Sequence

from retail_assistant.corpus.reading.answers import Question, read_answer
from retail_assistant.corpus.reading.catalog_facts import value_atoms
from retail_assistant.corpus.reading.text import abstaining_clauses, normalise
from retail_assistant.corpus.rendering import rendered_attributes
from retail_assistant.evaluation.outcomes import judge
from retail_assistant.serving.journeys.amounts import stated_amounts
from retail_assistant.serving.journeys.card_checks import of_cards
from retail_assistant.serving.journeys.checks import Check, NothingShown, Scene, always, forbidden
from retail_assistant.serving.journeys.runner import Played
from retail_assistant.serving.journeys.stock import Stock


def score(played: Played, stock: Stock) -> list[list[Check]]:
    """The checks of each turn of a journey that was played."""
    scored = []
    for number, (turn, spoken) in enumerate(zip(played.journey.turns, played.turns, strict=True)):
        scene = Scene(stock, played.cast, turn, spoken, played.turns[:number])
        scored.append(list(checks_of(scene)))
    return scored


def checks_of(scene: Scene) -> Iterator[Check]:
    """Every check of a turn; where there is no answer, that alone."""
    silent = "" if scene.spoken.answer.strip() else "the answer is empty"
    yield Check("answered", scene.spoken.error or silent)
    if scene.spoken.result is None:
        return
    yield from always(scene)
    yield from _of_result(scene)
    for check in (_of_texts, _of_details):
        try:
            yield from check(scene)
        except NothingShown as error:
            yield Check("refers_to_shown", str(error))
    if scene.expect.cards is not None:
        try:
            yield from of_cards(scene, scene.expect.cards)
        except NothingShown as error:
            yield Check("refers_to_shown", str(error))


def _of_result(scene: Scene) -> Iterator[Check]:
    expect, result = scene.expect, scene.result
    if expect.intent:
        wrong = result.intent not in expect.intent
        yield Check("intent", f"{result.intent}" if wrong else "")
    if expect.declined is not None:
        allowed: list[str | None] = [*expect.declined] or [None]
        wrong = result.declined not in allowed
        told = f"{result.declined or 'not declined'}; expected: {', '.join(expect.declined)}"
        yield Check("declined", told if wrong else "")
    if expect.forbids:
        yield Check("forbidden", forbidden(scene))
    if expect.says_no:
        yield Check("says_no", "" if _denies(scene) else "does not say that there is none")
    if expect.does_not_know:
        claims = "" if scene.reading.abstained else "does not say that it does not know"
        yield Check("does_not_know", claims)


def _denies(scene: Scene) -> bool:
    return scene.result.declined is not None or bool(
        abstaining_clauses(scene.named.text, scene.named.masked)
    )


def _of_texts(scene: Scene) -> Iterator[Check]:
    """Which products the turn is about."""
    cited = set(scene.result.citations)
    shown = {card.product_id for card in scene.cards}
    named = {key for one in scene.named.products for key in one.product_ids}
    for role in scene.expect.cites:
        yield Check("cites", "" if scene.product(role) in cited else f"not {role}")
    for role in scene.expect.cites_not:
        yield Check("cites_not", f"{role}" if scene.product(role) in cited else "")
    for role in scene.expect.names:
        there = scene.product(role) in cited | shown | named
        yield Check("names", "" if there else f"not {role}")
    amounts = stated_amounts(scene.named) if scene.expect.states_price else []
    told = {card.product_id: card.price for card in scene.cards}
    for role in scene.expect.states_price:
        product_id = scene.product(role)
        price = scene.stock.price(product_id)
        if price is None:
            said = _denies(scene)
        else:
            said = told.get(product_id) == price or price in amounts
        yield Check("price_told", "" if said else f"not the price of {role}, {price}")


def _of_details(scene: Scene) -> Iterator[Check]:
    """What the turn says of products."""
    expect = scene.expect
    if expect.states is not None:
        yield _value(scene, scene.product(expect.states))
    if expect.overview is not None:
        yield _overview(scene, scene.product(expect.overview))
    if expect.compares:
        yield _compared(scene, [scene.product(role) for role in expect.compares])


def _attribute(scene: Scene) -> str:
    """The name of the attribute that is asked: the turn's, that of its product, or of the first."""
    roles = [scene.expect.states or "", *scene.expect.compares]
    own = [scene.cast.attributes.get(role, "") for role in roles]
    known = [*own, *scene.cast.attributes.values()]
    return scene.expect.attribute or next((one for one in known if one), "")


def _question(scene: Scene, product_id: str, intent: str, attribute: str | None) -> Question:
    values = scene.stock.values(product_id, attribute) if attribute else ()
    return Question(
        scene.spoken.shopper,
        intent,
        product_id=product_id,
        product_name=scene.stock.records[product_id]["name"],
        asked_attribute=attribute,
        gold_value=", ".join(values) or None,
    )


def _value(scene: Scene, product_id: str) -> Check:
    """The record's value is told; where the record has none, that it is not known."""
    attribute, facts = _attribute(scene), scene.stock.facts
    has = bool(scene.stock.values(product_id, attribute))
    question = _question(scene, product_id, "attribute" if has else "unanswerable", attribute)
    reading = read_answer(scene.spoken.answer, question, facts)
    outcome = judge(scene.spoken.answer, reading, question, facts).outcome
    right = outcome in ("true_positive", "abstained_right")
    told = f"{outcome}: {attribute} of {question.product_name} is {question.gold_value}"
    return Check("value", "" if right else told)


def _overview(scene: Scene, product_id: str) -> Check:
    facts, record = scene.stock.facts, scene.stock.records[product_id]
    question = _question(scene, product_id, "overview", None)
    reading = read_answer(scene.spoken.answer, question, facts)
    expected = [name for name, _ in rendered_attributes(record)]
    outcome = judge(scene.spoken.answer, reading, question, facts, expected).outcome
    # A card gives the details that the text leaves out.
    right = outcome in ("complete", "incomplete")
    return Check("overview", "" if right else outcome)


def _compared(scene: Scene, ids: Sequence[str]) -> Check:
    """Each product's value of the asked attribute is told, and no value that none of them has."""
    attribute, facts = _attribute(scene), scene.stock.facts
    gold = {
        key: frozenset[str]().union(
            *(value_atoms(attribute, value) for value in scene.stock.values(key, attribute))
        )
        for key in ids
    }
    question = Question(scene.spoken.shopper, "attribute", asked_attribute=attribute)
    table = facts.values_of(attribute)
    words = [
        "\u25a1" if i in scene.named.masked else word
        for i, word in enumerate(scene.named.text.words)
    ]
    stated = frozenset[str]().union(
        *(table.meanings[span.phrase].atoms for span in table.find(words)),
        *(one.atoms for one in read_answer(scene.spoken.answer, question, facts).values),
    )
    missing = [_called(scene, key) for key in ids if not gold[key] <= stated]
    return Check(
        "values_compared", f"not the {attribute} of {', '.join(missing)}" if missing else ""
    )


def _called(scene: Scene, product_id: str) -> str:
    return normalise(scene.stock.records[product_id]["name"])
