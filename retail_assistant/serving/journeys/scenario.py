"""What a journey is: the products it is about, what a shopper says, and what has to be true then.

Journeys are YAML files, one a kind, and hold on any catalog: products are drawn by rule, texts
refer to them as `{a.name}`. Nothing that is expected is a wording.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from retail_assistant.serving.turns import Declined, Intent
from retail_assistant.storage import fingerprint
from retail_assistant.yaml_files import YamlError, parsed_yaml

SHIPPED = Path(__file__).parent / "scenarios"
PRODUCT_TERMS = frozenset(
    {"name", "code", "price", "brand", "colour", "audience", "subcategory", "noun", "nouns"}
    | {"attribute", "verb", "value", "typo"}
)
WISH_TERMS = frozenset(
    {"nouns", "noun", "max_price", "min_price", "colour", "audience", "brand"}
    | {"attribute", "value"}
)
INVENTION_TERMS = frozenset({"name"})

Dimension = Literal["nouns", "max_price", "min_price", "colour", "audience", "brand", "attribute"]
Field_ = Literal["price", "brand", "colour", "audience", "subcategory", "nouns"]


class JourneyError(ValueError):
    """A journey that cannot be used: file, journey, turn, field, and what is allowed."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Intents = Annotated[list[Intent], BeforeValidator(_listed)]
Reasons = Annotated[list[Declined], BeforeValidator(_listed)]
Names = Annotated[list[str], BeforeValidator(_listed)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProductRule(_Frozen):
    """Which product may play a role; all that is given must hold."""

    unique_name: bool = Field(True, description="Whether no other product has its name.")
    has: list[Field_] = Field([], description="What its record must say.")
    attribute: Names = Field(
        [],
        description="It has one of these attributes (`any`: of its own), whose value its name does"
        " not give away; the first is {role.attribute}.",
    )
    lacks: Names = Field(
        [],
        description="It lacks one of these attributes (`any`), which products of its subcategory"
        " have; that is {role.attribute}.",
    )
    same_nouns_as: str | None = None
    same_subcategory_as: str | None = None
    same_audience_as: str | None = None
    cheaper_than: str | None = None
    other_value_than: str | None = Field(None, description="Of that role's attribute.")
    other_colour_than: str | None = None
    alternatives: int = Field(0, ge=0, description="At least so many could be taken instead.")
    complements: int = Field(0, ge=0, description="At least so many go with it.")

    @property
    def roles(self) -> list[str]:
        """The roles that have to be cast before."""
        named = (
            self.same_nouns_as,
            self.same_subcategory_as,
            self.same_audience_as,
            self.cheaper_than,
            self.other_value_than,
            self.other_colour_than,
        )
        return [role for role in named if role is not None]


class WishRule(_Frozen):
    """What a shopper wants, read off a product that has it all."""

    like: str = Field(description="A role.")
    by: list[Dimension] = Field(description="What is wanted of it.", min_length=1)
    fitting: int = Field(1, ge=0, description="At least so many products fit; 0: none may.")
    beyond: Dimension | None = Field(
        None, description="With fitting 0: what is asked for that none of the others has."
    )


class InventionRule(_Frozen):
    """A product that does not exist."""

    like: str = Field(description="The role whose name it has, but for an invented brand.")


class CardsRule(_Frozen):
    """What has to be true of the products shown."""

    at_least: int = Field(0, ge=0)
    at_most: int | None = Field(None, ge=0)
    fit: str | None = Field(None, description="A wish: each product has all of it.")
    cheapest: bool = Field(False, description="The first is the cheapest that has all of `fit`.")
    sorted_by_price: bool = False
    new: bool = Field(False, description="None was shown in an earlier turn.")
    include: Names = []
    exclude: Names = []
    cheaper_than: str | None = Field(None, description="A product; each costs less.")
    alternatives_to: str | None = Field(None, description="A product; each may stand in for it.")
    complements_to: str | None = Field(None, description="A product; each is worn with it.")


class Expectation(_Frozen):
    """What has to be true of a turn.

    Products are roles, or `shown.2`: the second one of the last turn that showed so many.
    """

    intent: Intents = []
    declined: Reasons | None = Field(None, description="Allowed reasons; []: not declined.")
    cites: Names = []
    cites_not: Names = []
    names: Names = Field([], description="In the text, on a card or by citation.")
    states: str | None = Field(None, description="A product: the asked attribute's value is told.")
    attribute: str | None = Field(None, description="Asked attribute; default: the product's own.")
    compares: Names = Field([], description="Products whose values of `attribute` are told.")
    states_price: Names = Field([], description="Products whose price the text or a card tells.")
    overview: str | None = Field(None, description="A product: details, none of them wrong.")
    does_not_know: bool = Field(False, description="Says that it does not know, and claims nothing")
    says_no: bool = Field(False, description="Says that there is none, or declines.")
    forbids: list[str] = Field([], description="What may not be said, unless it is denied.")
    cards: CardsRule | None = None

    @property
    def products(self) -> list[str]:
        """Every product that is referred to."""
        single = [self.states, self.overview]
        if self.cards is not None:
            cards = self.cards
            single += [cards.cheaper_than, cards.alternatives_to, cards.complements_to]
            single += [*cards.include, *cards.exclude]
        lists = [*self.cites, *self.cites_not, *self.names, *self.compares, *self.states_price]
        return [one for one in [*single, *lists] if one is not None]


class Turn(_Frozen):
    """What a shopper says, and what has to be true of the answer."""

    shopper: str = Field(min_length=1)
    repeat: int = Field(1, ge=1, description="So many times one after the other, as one message.")
    expect: Expectation = Expectation()


class Journey(_Frozen):
    """One conversation."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    hostile: bool = False
    products: dict[str, ProductRule] = {}
    wishes: dict[str, WishRule] = {}
    inventions: dict[str, InventionRule] = {}
    turns: list[Turn] = Field(min_length=1)

    @cached_property
    def terms(self) -> dict[str, frozenset[str]]:
        """What texts may refer to: role -> its terms."""
        return {
            **dict.fromkeys(self.products, PRODUCT_TERMS),
            **dict.fromkeys(self.wishes, WISH_TERMS),
            **dict.fromkeys(self.inventions, INVENTION_TERMS),
        }


class JourneyFile(_Frozen):
    """The journeys of a kind."""

    kind: str = Field(pattern=r"^[a-z_]+$")
    journeys: list[Journey] = Field(min_length=1)


class Suite(_Frozen):
    """All journeys, by kind."""

    files: list[JourneyFile]

    @property
    def journeys(self) -> list[tuple[str, Journey]]:
        """Kind and journey, in order."""
        return [(file.kind, journey) for file in self.files for journey in file.journeys]

    @property
    def version(self) -> str:
        """A hash of what the journeys say."""
        return fingerprint(self.model_dump(mode="json"))

    def only(self, ids: list[str]) -> "Suite":
        """The journeys of some ids or kinds.

        Raises:
            JourneyError: there is no such journey or kind.
        """
        known = {file.kind for file in self.files} | {one.id for _, one in self.journeys}
        if unknown := sorted(set(ids) - known):
            raise JourneyError(f"no journey {', '.join(unknown)}; allowed: {', '.join(known)}")
        kept = [
            JourneyFile(kind=file.kind, journeys=chosen)
            for file in self.files
            if (chosen := [j for j in file.journeys if file.kind in ids or j.id in ids])
        ]
        return Suite(files=kept)


def load_journeys(folder: Path = SHIPPED) -> Suite:
    """The journeys in a folder's YAML files, in order of the files' names.

    Raises:
        JourneyError: a file cannot be used; names it, the journey, the turn and the field.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise JourneyError(f"{folder} has no journeys; allowed: a folder of .yaml files")
    suite = Suite(files=[_load(path) for path in paths])
    seen: set[str] = set()
    for _, journey in suite.journeys:
        if journey.id in seen:
            raise JourneyError(f"{folder}: two journeys are called {journey.id}")
        seen.add(journey.id)
    return suite


def _load(path: Path) -> JourneyFile:
    try:
        content = parsed_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        cause = " ".join(str(error).split())[:300]
        raise JourneyError(f"{path} cannot be read ({cause}); allowed: YAML") from error
    try:
        file = JourneyFile.model_validate(content)
    except ValidationError as error:
        problems = [_problem(one["loc"], one["msg"], content) for one in error.errors()]
        raise JourneyError(f"{path}: {'; '.join(problems)}") from error
    for journey in file.journeys:
        for wrong in _unknown(journey):
            raise JourneyError(f"{path}: journey {journey.id}, {wrong}")
    return file


def _problem(place: tuple[int | str, ...], message: str, content: object) -> str:
    """`journey budget, turn 2, expect.intent: …`"""
    words, rest = [], list(place)
    if len(rest) > 1 and rest[0] == "journeys" and isinstance(content, dict):
        number = rest[1]
        given = content["journeys"][number]
        name = given.get("id", number) if isinstance(given, dict) else number
        words.append(f"journey {name}")
        rest = rest[2:]
        if len(rest) > 1 and rest[0] == "turns":
            words.append(f"turn {int(rest[1]) + 1}")
            rest = rest[2:]
    field = ".".join(map(str, rest)) or "the file"
    return f"{', '.join([*words, field])}: {message}"


def _unknown(journey: Journey) -> Iterator[str]:
    """References that nothing answers to."""
    roles = ", ".join(journey.terms) or "none"
    known: list[str] = []
    for role, rule in journey.products.items():
        for other in rule.roles:
            if other not in known:
                yield f"products.{role}: no role {other} before it; allowed: {', '.join(known)}"
        known.append(role)
    likes = {name: rule.like for name, rule in journey.wishes.items()}
    likes |= {name: rule.like for name, rule in journey.inventions.items()}
    for name, like in likes.items():
        if like not in journey.products:
            yield f"{name}.like: no product {like}; allowed: {', '.join(known)}"
    for number, turn in enumerate(journey.turns, start=1):
        for text in (turn.shopper, *turn.expect.forbids):
            for reference in references(text):
                role, _, term = reference.partition(".")
                if term not in journey.terms.get(role, ()):
                    yield f"turn {number}, {{{reference}}}: unknown; roles: {roles}"
        for product in turn.expect.products:
            if product not in journey.products and not _is_shown(product):
                yield f"turn {number}, product {product}: unknown; allowed: {roles}, shown.1, …"
        cards = turn.expect.cards
        if cards is not None and cards.fit is not None and cards.fit not in journey.wishes:
            yield f"turn {number}, cards.fit: no wish {cards.fit}"


def _is_shown(product: str) -> bool:
    head, _, number = product.partition(".")
    return head == "shown" and number.isdigit() and int(number) > 0


def references(text: str) -> list[str]:
    """What stands in braces."""
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]
