"""Truthfulness from 1 to 5 by a judge: a language model at an OpenAI-compatible endpoint.

Each answer is judged with the reference answer before it and behind it, several times each: a judge
prefers places (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 3.3; Wang et al. 2023, "Large
Language Models are not Fair Evaluators"). Judgements are kept as the generators' responses are, so
that none is paid for twice.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import JsonValue, ValidationError

from retail_assistant.corpus.generate import RESPONSES
from retail_assistant.corpus.generators.asking import Assignment, Progress, ask_all
from retail_assistant.corpus.generators.kept import KeptResponses
from retail_assistant.corpus.generators.model import GenerationError, Model, Reply
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice
from retail_assistant.evaluation.agreement import agreement, read_sheet
from retail_assistant.evaluation.rubric import (
    ORDERS,
    RUBRIC_VERSION,
    VERDICT_SCHEMA,
    Order,
    judge_prompt,
    read_verdict,
)
from retail_assistant.objects import ObjectStore
from retail_assistant.settings import Settings, SettingsError, get_settings
from retail_assistant.storage import file_sha256, fingerprint
from retail_assistant.storage.bucket import shared_uri

KEY_VARIABLE = "RETAIL_JUDGE_API_KEY"
"""The environment variable that holds the judge's key. It is kept nowhere else."""
REPEATS = 2
MOST_RECORDS = 4
# A judgement that fails is empty and counted; only an endpoint that answers nothing ends a run.
POLICY = GenerationPolicy(
    temperature=0.5, max_tokens=512, max_failed_share=1.0, max_rejected_share=1.0
)
JUDGED_SCHEMA = pl.Schema(
    {
        "dialogue_id": pl.String,
        "variant": pl.String,
        "truthfulness": pl.Float64,
        "spread": pl.Float64,
        "order_difference": pl.Float64,
        "judgements": pl.Int64,
        "failed": pl.Int64,
    }
)


@dataclass(frozen=True)
class Judged:
    """What a judge said.

    answers (JUDGED_SCHEMA), one row an answer: truthfulness, the mean of the means of both orders
    (null where an order has no judgement); spread, the standard deviation of its judgements;
    order_difference, reference first less answer first; judgements with a score, and failed ones.
    problem: why the endpoint could not be asked to the end, or None.
    """

    judge: str
    answers: pl.DataFrame
    problem: str | None

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers for whoever reads the scores."""
        answers = self.answers
        return {
            "judge": self.judge,
            "judged": answers["truthfulness"].count(),
            "not_judged": answers["truthfulness"].null_count(),
            "failed_judgements": int(answers["failed"].sum()),
            "mean_spread": answers["spread"].mean(),
            "mean_order_difference": answers["order_difference"].mean(),
            "problem": self.problem,
        }


def configured_judge() -> GeneratorChoice | None:
    """The judge of the settings `RETAIL_JUDGE_…`, or None where none is named.

    Raises:
        SettingsError: they do not go together.
    """
    settings = get_settings()
    if settings.judge_url is None:
        return None
    try:
        return GeneratorChoice(kind="openai", model=settings.judge_model, url=settings.judge_url)
    except ValidationError as error:
        problem = error.errors()[0]
        field = "_".join(("RETAIL_JUDGE", *map(str, problem["loc"]))).upper()
        raise SettingsError(f"{field}: {problem['msg']}") from None


def judge_version(settings: Settings) -> str:
    """Of what a score depends on beside the answers: the judge, its rubric, the person's sheet."""
    sheet = settings.judge_sheet
    return fingerprint(
        {
            "url": settings.judge_url,
            "model": settings.judge_model,
            "rubric": RUBRIC_VERSION,
            "sheet": file_sha256(sheet) if sheet is not None else None,
        }
    )


def judge_answers(
    dialogues: pl.DataFrame,
    predictions: pl.DataFrame,
    products: pl.DataFrame,
    choice: GeneratorChoice,
    store: ObjectStore,
    *,
    seed: int,
    repeats: int = REPEATS,
    policy: GenerationPolicy = POLICY,
    progress: Progress = lambda *_: None,
) -> Judged:
    """Judge every prediction `repeats` times in each order; equal answers to a question once.

    Raises:
        ObjectStoreError: judgements cannot be kept.
    """
    asked = _questions(dialogues, predictions)
    prompts = _prompts(asked, products)
    wanted = {
        _digest(prompt, repeat): _assignment(_digest(prompt, repeat), prompt)
        for by_order in prompts
        for prompt in by_order.values()
        for repeat in range(repeats)
    }
    open_judge, kept = partial(_open, choice, policy), _kept(store, choice, policy, seed)
    replies, problem = _ask(list(wanted.values()), open_judge, kept, policy, seed, progress)
    rows = [
        _judged_row(row, by_order, replies, repeats)
        for row, by_order in zip(asked.iter_rows(named=True), prompts, strict=True)
    ]
    judged = pl.DataFrame(rows, schema=JUDGED_SCHEMA, orient="row")
    return Judged(f"{choice.model_name} at {choice.url}", judged, problem)


def with_truthfulness(predictions: pl.DataFrame, judged: Judged) -> pl.DataFrame:
    """Predictions with the judge's `truthfulness`; null where there is no judgement."""
    keys = ["dialogue_id", "variant"]
    scores = judged.answers.select(*keys, "truthfulness")
    kept = predictions.drop("truthfulness", strict=False)
    return kept.join(scores, on=keys, how="left", maintain_order="left")


def judge_with_settings(
    dialogues: pl.DataFrame,
    predictions: pl.DataFrame,
    products: pl.DataFrame,
    choice: GeneratorChoice,
    *,
    sheet: Path | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Predictions with `truthfulness`, and the judge's `facts`; judgements are kept in the storage.

    With a person's sheet (by default that of the settings) the facts hold the `agreement`.

    Raises:
        ObjectStoreError: judgements cannot be kept.
        ValueError: the sheet cannot be used.
    """
    settings = get_settings()
    sheet = sheet or settings.judge_sheet
    human = read_sheet(sheet) if sheet is not None else None
    store = ObjectStore(shared_uri(settings.storage / RESPONSES))
    store.check()
    judged = judge_answers(
        dialogues, predictions, products, choice, store, seed=settings.seed, progress=progress
    )
    facts = judged.facts
    if human is not None:
        facts["agreement"] = agreement(judged.answers, human).model_dump()
    return with_truthfulness(predictions, judged), facts


def _kept(
    store: ObjectStore, choice: GeneratorChoice, policy: GenerationPolicy, seed: int
) -> KeptResponses:
    """The judgements so far of one judge, asked in one way."""
    identity: dict[str, JsonValue] = {
        "generator": "judge",
        "model": choice.model_name,
        "url": choice.url,
        "sampling": policy.sampling,
        "prompt_version": RUBRIC_VERSION,
        "seed": seed,
    }
    return KeptResponses(store, identity)


def _open(choice: GeneratorChoice, policy: GenerationPolicy) -> Model:
    from retail_assistant.corpus.generators.endpoint import Endpoint

    return Endpoint(choice, policy, key_variable=KEY_VARIABLE)


def _ask(
    assignments: Sequence[Assignment],
    open_judge: Callable[[], Model],
    kept: KeptResponses,
    policy: GenerationPolicy,
    seed: int,
    progress: Progress,
) -> tuple[Mapping[str, Sequence[Reply]], str | None]:
    """Replies by digest, and why there are not all of them if the endpoint gave up."""
    try:
        asked = asyncio.run(
            ask_all(assignments, open_judge, kept, policy, seed=seed, progress=progress)
        )
    except GenerationError as error:
        return kept.load([one.digest for one in assignments]), str(error)
    return asked.replies, None


def _questions(dialogues: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    questions = dialogues.select(
        "dialogue_id", "product_id", "question", "evidence", reference="answer"
    )
    answers = predictions.select("dialogue_id", "variant", pl.col("answer").fill_null(""))
    return answers.join(questions, on="dialogue_id").sort("variant", "dialogue_id")


def _prompts(asked: pl.DataFrame, products: pl.DataFrame) -> list[dict[Order, str]]:
    catalog = {row["product_id"]: row for row in products.iter_rows(named=True)}
    return [
        {
            order: judge_prompt(
                row["question"], row["reference"], row["answer"], _records(row, catalog), order
            )
            for order in ORDERS
        }
        for row in asked.iter_rows(named=True)
    ]


def _records(
    row: Mapping[str, Any], catalog: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The asked product's record and those that the gold answer rests on."""
    evidence = (row["evidence"] or {}).get("product_ids") or []
    ids = dict.fromkeys([row["product_id"], *evidence])
    return [catalog[one] for one in ids if one in catalog][:MOST_RECORDS]


def _digest(prompt: str, repeat: int) -> str:
    text = f"{repeat}\n{prompt}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _assignment(digest: str, prompt: str) -> Assignment:
    return Assignment(digest, lambda: prompt, VERDICT_SCHEMA, read_verdict)


def _judged_row(
    row: Mapping[str, Any],
    by_order: Mapping[Order, str],
    replies: Mapping[str, Sequence[Reply]],
    repeats: int,
) -> dict[str, Any]:
    import numpy as np

    scores: dict[Order, list[int]] = {order: [] for order in ORDERS}
    for order, prompt in by_order.items():
        for repeat in range(repeats):
            score = read_verdict(replies.get(_digest(prompt, repeat), ())).score
            scores[order] += [] if score is None else [score]
    every = [score for found in scores.values() for score in found]
    means = [float(np.mean(found)) for found in scores.values() if found]
    whole = len(means) == len(ORDERS)
    return {
        "dialogue_id": row["dialogue_id"],
        "variant": row["variant"],
        "truthfulness": float(np.mean(means)) if whole else None,
        "spread": float(np.std(every, ddof=1)) if len(every) > 1 else None,
        "order_difference": means[0] - means[1] if whole else None,
        "judgements": len(every),
        "failed": len(ORDERS) * repeats - len(every),
    }
