"""Whether an engine serves an adapter as it was trained, before its answers count.

Some pairs of a model and an adapter are served as if there were no adapter, without a word, and
nothing in the answers gives that away. So the engine's log-probabilities of a few gold answers are
compared with those of Transformers and PEFT, token by token, with the adapter and without it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.evaluation.engine import Engine
from retail_assistant.evaluation.transformers_engine import AdaptedModel

QUESTIONS = 4
MOST_OF_EFFECT = 0.05
"""How much of what the adapter changes an engine may miss: a wrong scale misses more, the rounding
of bfloat16 less (0.0002% measured in float32)."""

NOISE = 2.0
"""Beyond that, so many times the difference that the engine has without any adapter."""

MOST_NOISE = 0.1
"""Nats a token: two engines that round differently are nearer, another prompt or model is not."""


class ParityError(RuntimeError):
    """An engine does not serve an adapter as PEFT does; shows the numbers and what is allowed."""


class Gold(BaseModel):
    """Prompts and their right answers, as token ids."""

    model_config = ConfigDict(frozen=True)

    prompts: list[list[int]]
    answers: list[list[int]]

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return sum(map(len, self.answers))


class Parity(BaseModel):
    """Mean absolute differences of log-probabilities, in nats a token of the gold answers."""

    model_config = ConfigDict(frozen=True)

    tokens: int
    base_difference: float = Field(description="Engine and PEFT apart, without the adapter.")
    difference: float = Field(description="Engine and PEFT apart, with the adapter.")
    effect: float = Field(description="With and without the adapter apart, by PEFT.")
    engine_effect: float = Field(description="With and without the adapter apart, by the engine.")

    @property
    def allowed(self) -> float:
        """The largest `difference` that passes."""
        return MOST_OF_EFFECT * self.effect + NOISE * self.base_difference

    def require(self, adapter: str) -> None:
        """Refuse an engine that serves something else.

        Raises:
            ParityError: with the numbers and what is allowed.
        """
        if self.base_difference > MOST_NOISE:
            raise ParityError(
                f"{adapter}: already without the adapter engine and Transformers differ by"
                f" {self.base_difference:.3g} nats a token; allowed: {MOST_NOISE:g}"
            )
        if self.effect <= (1 + NOISE) * self.base_difference:
            raise ParityError(
                f"{adapter} changes nothing that can be told from rounding: {self.effect:.3g} nats"
                f" a token by PEFT; allowed: more than {(1 + NOISE) * self.base_difference:.3g}"
            )
        if self.difference > self.allowed:
            raise ParityError(
                f"{adapter} is not served as it was trained: the engine differs from PEFT by"
                f" {self.difference:.3g} nats a token, allowed: {self.allowed:.3g}; the adapter"
                f" changes {self.effect:.3g} by PEFT, {self.engine_effect:.3g} in the engine"
            )


class Reference(BaseModel):
    """What Transformers and PEFT say of the gold answers, with an adapter and without."""

    model_config = ConfigDict(frozen=True)

    gold: Gold
    adapted: list[list[float]]
    base: list[list[float]]


def gold_answers(questions: pl.DataFrame, grounding: str, encoder: Encoder) -> Gold:
    """A few questions, spread over all, with their gold answers."""
    step = max(1, questions.height // QUESTIONS)
    rows = questions.gather_every(step).head(QUESTIONS)
    pairs = rows.select(prompt_column(grounding), "completion").iter_rows()
    examples = list(encoder.examples(pairs))
    return Gold(
        prompts=[one.ids[: one.prompt_length] for one in examples],
        answers=[one.ids[one.prompt_length :] for one in examples],
    )


def references(
    base: Path, adapters: Mapping[str, Path], golds: Mapping[str, Gold]
) -> dict[str, Reference]:
    """For each adapter what PEFT says of its gold answers; the model is freed at the end.

    Call it before an engine takes the device's memory.
    """
    import gc

    import torch

    model = AdaptedModel(base, adapters)
    unadapted: dict[str, list[list[float]]] = {}
    found = {}
    for name in adapters:
        gold = golds[name]
        key = gold.model_dump_json()
        if key not in unadapted:
            unadapted[key] = _scores(model, gold, None)
        found[name] = Reference(gold=gold, adapted=_scores(model, gold, name), base=unadapted[key])
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _scores(model: AdaptedModel, gold: Gold, adapter: str | None) -> list[list[float]]:
    pairs = zip(gold.prompts, gold.answers, strict=True)
    return [model.log_probabilities([*ask, *say], len(say), adapter) for ask, say in pairs]


def parity(engine: Engine, adapter: str, reference: Reference) -> Parity:
    """How far an engine is from the reference, with the adapter and without."""
    gold = reference.gold
    base = engine.log_probabilities(gold.prompts, gold.answers)
    adapted = engine.log_probabilities(gold.prompts, gold.answers, adapter)
    return Parity(
        tokens=gold.tokens,
        base_difference=_apart(base, reference.base),
        difference=_apart(adapted, reference.adapted),
        effect=_apart(reference.adapted, reference.base),
        engine_effect=_apart(adapted, base),
    )


def _apart(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """The mean absolute difference of all tokens."""
    return fmean(
        abs(one - other)
        for some, others in zip(left, right, strict=True)
        for one, other in zip(some, others, strict=True)
    )
