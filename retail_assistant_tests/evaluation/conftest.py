"""A small catalog and questions about it, and a way to plant answers."""

import gc
from collections.abc import Callable, Iterator, Mapping

import polars as pl
import pytest

from retail_assistant.corpus.reading.answers import CatalogFacts
from retail_assistant.evaluation.metrics import score

Predict = Callable[..., pl.DataFrame]
ScoreOf = Callable[..., pl.DataFrame]

SHIRT, SHIRT_TWIN, TROUSERS, TOP, DRESS = (
    "aaaa1111-shirt", "bbbb2222-shirt", "cccc3333-trousers", "dddd4444-top", "eeee5555-dress",
)  # fmt: skip
_ATTRIBUTES = {
    SHIRT: {"Fabric": "Linen", "Neck": "Round Neck", "Occasion": "Casual, Party", "Wash": "Cold"},
    SHIRT_TWIN: {"Fabric": "Cotton", "Neck": "V-Neck", "Occasion": "Formal", "Wash": "Warm"},
    TROUSERS: {"Fabric": "Wool Blend", "Closure": "Zip", "Belt Included": "No", "Lining": "Cotton"},
    TOP: {"Fabric": "100% Cotton", "Length": "76 cm", "Ideal For": "Women's", "Pattern": "Solid"},
    DRESS: {"Fabric": "Silk", "Length": "Midi/Knee Length", "Ideal For": "Women's"},
}
_NAMES = {
    SHIRT: "Velmora Casual Men's Shirt",
    SHIRT_TWIN: "Velmora Casual Men's Shirt",
    TROUSERS: "Harlow Slim Men's Trousers",
    TOP: "Orbina Printed Women's Top",
    DRESS: "Orbina Evening Women's Dress",
}
_CATEGORIES = {
    SHIRT: ("Men's Clothing", "Shirts"),
    SHIRT_TWIN: ("Men's Clothing", "Shirts"),
    TROUSERS: ("Men's Clothing", "Trousers"),
    TOP: ("Women's Clothing", "Western Wear"),
    DRESS: ("Women's Clothing", "Western Wear"),
}


@pytest.fixture(scope="package", autouse=True)
def imports_are_no_garbage() -> Iterator[None]:
    """Statsmodels collects garbage at every call: what the imports made need not be searched."""
    import scipy.stats
    import statsmodels.stats.multitest  # noqa: F401

    assert scipy.stats
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def products() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "product_id": product_id,
                "name": name,
                "brand": name.split()[0],
                "department": "Clothing",
                "category": _CATEGORIES[product_id][0],
                "subcategory": _CATEGORIES[product_id][1],
                "attributes": [
                    {"name": key, "value": value} for key, value in _ATTRIBUTES[product_id].items()
                ],
                "retail_price": 1299.0,
                "discounted_price": 999.0,
            }
            for product_id, name in _NAMES.items()
        ]
    )


@pytest.fixture(scope="session")
def facts(products: pl.DataFrame) -> CatalogFacts:
    return CatalogFacts.from_products(products)


def _dialogue(dialogue_id: str, subset: str, intent: str, **fields: object) -> dict[str, object]:
    product_id = fields.get("product_id")
    name = fields.pop("name", None) or _NAMES.get(str(product_id))
    shared = list(_NAMES.values()).count(str(name)) > 1
    reference = f"{name} (item {str(product_id)[:8]})" if shared else name
    empty = {"asked_attribute": None, "gold_value": None, "product_id": None}
    return {
        "dialogue_id": dialogue_id,
        "subset": subset,
        "intent": intent,
        **empty,
        "product_name": name,
        "reference": reference,
        "question": f"{intent} {fields.get('asked_attribute')} {reference}?",
        "evidence": {"attributes": [], "product_ids": []},
        **fields,
    }


def _attribute(dialogue_id: str, subset: str, product_id: str, attribute: str) -> dict[str, object]:
    value, name = _ATTRIBUTES[product_id][attribute], _NAMES[product_id]
    return _dialogue(
        dialogue_id,
        subset,
        "attribute",
        product_id=product_id,
        asked_attribute=attribute,
        gold_value=value,
        answer=f"The {attribute.lower()} of {name} is {value}.",
    )


@pytest.fixture(scope="session")
def dialogues() -> pl.DataFrame:
    unknown = "I could not find Zenuvia Woven Women's Saree in our catalog, so I cannot say."
    return pl.DataFrame(
        [
            _attribute("train-1", "train", TROUSERS, "Fabric"),
            _attribute("recall-1", "recall", TROUSERS, "Closure"),
            _attribute("unseen-1", "unseen", SHIRT, "Fabric"),
            _attribute("unseen-2", "unseen", SHIRT, "Occasion"),
            _attribute("unseen-3", "unseen", TOP, "Fabric"),
            _attribute("unseen-4", "unseen", TOP, "Length"),
            _attribute("unseen-5", "unseen", DRESS, "Length"),
            _dialogue(
                "unseen-6", "unseen", "overview", product_id=TOP,
                evidence={"attributes": ["Fabric", "Length"], "product_ids": [TOP]},
                answer="Product Name: Orbina Printed Women's Top\nCategory: Western Wear\n"
                "Fabric: 100% Cotton\nLength: 76 cm",
            ),
            _dialogue(
                "unseen-7", "unseen", "alternative", product_id=TOP,
                evidence={"attributes": [], "product_ids": [TOP, DRESS]},
                answer="Similar to Orbina Printed Women's Top:\n"
                "- Orbina Evening Women's Dress: same brand",
            ),
            _dialogue(
                "unseen-8", "unseen", "complement", product_id=SHIRT,
                evidence={"attributes": [], "product_ids": [SHIRT, TROUSERS]},
                answer="Goes with it:\n- Harlow Slim Men's Trousers: from Trousers",
            ),
            _dialogue(
                "none-1", "unanswerable", "unanswerable", asked_attribute="Fabric",
                name="Zenuvia Woven Women's Saree", answer=unknown,
            ),
            _dialogue(
                "none-2", "unanswerable", "unanswerable", asked_attribute="Closure",
                product_id=DRESS,
                answer="The catalog does not say what the closure of"
                " Orbina Evening Women's Dress is.",
            ),
        ]
    ).sort("dialogue_id")  # fmt: skip


@pytest.fixture(scope="session")
def questions(dialogues: pl.DataFrame) -> pl.DataFrame:
    return dialogues.filter(pl.col("subset") != "train")


@pytest.fixture(scope="session")
def predict(questions: pl.DataFrame) -> Predict:
    """predict(variant, answer=...) or predict(variant, answers={id: ...}); else gold answers."""

    def predicted(
        variant: str,
        answer: str | None = None,
        answers: Mapping[str, str] | None = None,
        finish_reason: str = "stop",
    ) -> pl.DataFrame:
        gold = dict(questions.select("dialogue_id", "answer").iter_rows())
        given = dict.fromkeys(gold, answer) if answer is not None else gold | dict(answers or {})
        rows = [(key, variant, text, finish_reason, 10, 5) for key, text in given.items()]
        columns = ["dialogue_id", "variant", "answer", "finish_reason"]
        columns += ["prompt_tokens", "completion_tokens"]
        return pl.DataFrame(rows, schema=columns, orient="row")

    return predicted


@pytest.fixture(scope="session")
def score_of(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Predict) -> ScoreOf:
    """SCORED of one planted variant."""

    def scored(*arguments: object, **named: object) -> pl.DataFrame:
        return score(dialogues, predict("planted", *arguments, **named), products)

    return scored
