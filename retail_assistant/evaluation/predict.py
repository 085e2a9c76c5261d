"""Answer the evaluation questions with one or more variants of a model.

`python -m retail_assistant.evaluation.predict --spec spec.json` leaves `predictions.parquet`.
Finished shards are on disk at once: a killed run goes on where it was. Other specs in the spec's
`execution` are answered by the same engine, and each leaves its own artefact.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.evaluation.baselines import constant_answer, retrieval_only, with_examples
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.evaluation.parity import (
    Parity,
    ParityError,
    Reference,
    gold_answers,
    parity,
    references,
)
from retail_assistant.evaluation.processes import others, own_rank, share, take_own_device
from retail_assistant.evaluation.semantic import EMBEDDING_MODEL, with_sem_scores
from retail_assistant.evaluation.shards import (
    Shard,
    Variant,
    answer_shards,
    read_shard,
    shards_of,
)
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import TableRef, write_atomically
from retail_assistant.storage.crash_points import crossing
from retail_assistant.telemetry.tracing import span

EVALUATION_SUBSETS = ("recall", "unseen", "unanswerable")
MAX_LENGTH = 2048
BESIDE = "beside"
"""In a spec's `execution`: other specs that the same engine answers."""

SHARED = ("prompt_corpus", "base_model")


class PredictConfig(BaseModel):
    """What to answer with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: list[Variant]
    max_tokens: int
    retrieval_only: bool = False
    constant: bool = False
    sem_score: bool = True


@dataclass
class Evaluation:
    """One artefact in the making: its questions, in shards."""

    work: Workload
    config: PredictConfig
    rows: pl.DataFrame
    questions: pl.DataFrame
    shards: list[Shard] = field(default_factory=list)
    refused: ParityError | None = None

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter that answers; None: the base model does."""
        return self.work.spec.paths.get("adapter")

    @property
    def name(self) -> str:
        """What the engine calls its adapter."""
        return self.config.variants[0].name

    @property
    def parity_path(self) -> Path:
        """Where it is noted that the engine serves the adapter as it was trained."""
        return self.work.folder / "parity.json"


def together(specs: Sequence[LaunchSpec]) -> LaunchSpec:
    """One launch for several artefacts: that of the first, and the others beside it.

    It needs what the one that needs most does.
    """
    first, *rest = specs
    if not rest:
        return first
    beside = [spec.model_dump(mode="json") for spec in rest]
    resources = max((spec.resources for spec in specs), key=lambda needs: needs.processes)
    return first.model_copy(update={"execution": {BESIDE: beside}, "resources": resources})


def evaluation_questions(corpus: pl.DataFrame) -> pl.DataFrame:
    """The rows of the evaluation sets, in a fixed order."""
    return corpus.filter(pl.col("subset").is_in(EVALUATION_SUBSETS)).sort("dialogue_id")


def evaluations_of(work: Workload) -> list[Evaluation]:
    """What a spec asks for, and the specs beside it.

    Raises:
        ValueError: they cannot share an engine, or there is nothing to ask.
    """
    beside = [LaunchSpec.model_validate(one) for one in work.spec.execution.get(BESIDE, [])]
    paths, versions = work.spec.paths, work.spec.inputs
    for spec in beside:
        for name in SHARED:
            if spec.inputs[name] != versions[name]:
                raise ValueError(
                    f"{name} of {spec.fingerprint} is {spec.inputs[name]}; allowed beside"
                    f" {work.spec.fingerprint}: {versions[name]}"
                )
    corpus = TableRef(path=paths["prompt_corpus"], sha256=versions["prompt_corpus"], rows=0)
    rows = corpus.read()
    questions = evaluation_questions(rows)
    if questions.is_empty():
        raise ValueError(f"{paths['prompt_corpus']} has no rows of {', '.join(EVALUATION_SUBSETS)}")
    found = [_evaluation(one, rows, questions) for one in (work, *map(work.beside, beside))]
    if len({one.name for one in found}) < len(found):
        raise ValueError(f"variants share a name: {', '.join(one.name for one in found)}")
    if len({one.config.max_tokens for one in found}) > 1:
        raise ValueError("max_tokens differs; allowed beside each other: the same")
    return found


def _evaluation(work: Workload, rows: pl.DataFrame, questions: pl.DataFrame) -> Evaluation:
    one = Evaluation(work, PredictConfig.model_validate(work.spec.config), rows, questions)
    for variant in one.config.variants:
        adapter = one.name if one.adapter is not None else None
        shown = questions
        if variant.shots:
            longest = MAX_LENGTH - one.config.max_tokens
            shown = with_examples(questions, rows, variant.grounding, variant.shots, longest)
        one.shards += shards_of(work.folder, shown, variant, adapter)
    return one


def _run(work: Workload) -> None:
    processes = work.spec.resources.processes
    take_own_device(processes)
    evaluations = evaluations_of(work)
    with others(processes, sys.argv[1:]):
        _answer(work, evaluations, processes)
    if own_rank() > 0:
        return
    for one in evaluations:
        if one.refused is None:
            _gather(one, processes)
            if one.work is not work:
                one.work.finish()
    refused = [one for one in evaluations if one.refused is not None]
    if not refused:
        return
    if evaluations[0] not in refused:
        work.finish()
    raise ParityError("; ".join(str(one.refused) for one in refused))


def _answer(work: Workload, evaluations: Sequence[Evaluation], processes: int) -> None:
    """Answer what is not on disk yet: of that the share of this process."""
    shards = share([shard for one in evaluations for shard in one.shards], processes)
    pending = [shard for shard in shards if not shard.is_answered]
    # The first process answers for all that adapters are served as they were trained.
    unproven = [one for one in evaluations if own_rank() == 0 and _is_unproven(one)]
    kept = sum(shard.questions.height for shard in shards if shard.is_answered)
    if kept:
        work.say(f"{kept} questions were answered before")
    if not pending and not unproven:
        return
    style = prompt_style(evaluations[0].questions)
    known = _references(work, unproven)
    started = time.monotonic()
    with _traced_engine(
        work.spec.paths["base_model"],
        {one.name: one.adapter for one in evaluations if one.adapter is not None},
        style=style,
        max_length=MAX_LENGTH,
        say=work.say,
    ) as engine:
        for one in evaluations:
            one.work.metrics["engine"] = engine.name
            one.work.metrics["engine_start_seconds"] = round(time.monotonic() - started, 1)
            one.work.metrics["processes"] = processes
        for one in unproven:
            _prove(engine, one, known[one.name])
        refused = {one.name for one in evaluations if one.refused is not None}
        pending = [shard for shard in pending if shard.adapter not in refused]
        _ask(work, engine, evaluations, pending)


@contextmanager
def _traced_engine(base: Path, adapters: Mapping[str, Path], **how: Any) -> Iterator[Engine]:
    """As `open_engine`; its start is a span."""
    with ExitStack() as stack:
        with span("start engine") as starting:
            starting.note(adapters=len(adapters))
            engine = stack.enter_context(open_engine(base, adapters, **how))
        yield engine


def _is_unproven(one: Evaluation) -> bool:
    return one.adapter is not None and not one.parity_path.is_file()


def _references(work: Workload, evaluations: Sequence[Evaluation]) -> dict[str, Reference]:
    """What Transformers and PEFT say, before the engine takes the device's memory."""
    if not evaluations:
        return {}
    from transformers import AutoTokenizer

    from retail_assistant.corpus.encoding import Encoder

    base = work.spec.paths["base_model"]
    work.say(f"log-probabilities by PEFT, to compare with: {', '.join(_names(evaluations))}")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoder = Encoder(tokenizer, prompt_style(evaluations[0].questions))
    golds = {
        one.name: gold_answers(one.questions, one.config.variants[0].grounding, encoder)
        for one in evaluations
    }
    adapters = {one.name: one.adapter for one in evaluations if one.adapter is not None}
    return references(base, adapters, golds)


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    return [one.name for one in evaluations]


def _prove(engine: Engine, one: Evaluation, reference: Reference) -> None:
    """Note that the engine serves the adapter as PEFT does, or that it is refused."""
    found = parity(engine, one.name, reference)
    try:
        found.require(one.name)
    except ParityError as error:
        one.refused = error
        one.work.say(str(error))
        return
    with crossing("parity", one.name):
        write_atomically(one.parity_path, found.model_dump_json(indent=2))


def _ask(
    work: Workload, engine: Engine, evaluations: Sequence[Evaluation], pending: Sequence[Shard]
) -> None:
    if not pending:
        return
    max_tokens = evaluations[0].config.max_tokens
    asked = sum(shard.questions.height for shard in pending)
    # vLLM's own spans, in this process, know no trace that they are in.
    with span("ask") as asking:
        asking.note(questions=asked, engine=engine.name)
        answer_shards(engine, pending, max_tokens, work.progress)
    for one in evaluations:
        names = {variant.name for variant in one.config.variants}
        mine = [shard for shard in pending if shard.variant.name in names]
        one.work.metrics["questions_asked"] = sum(shard.questions.height for shard in mine)


def _gather(one: Evaluation, processes: int) -> None:
    """All shards, and what needs no model, as one table; and what is known of it."""
    work = one.work
    frames = [_answers(one, processes)]
    if one.config.retrieval_only:
        paths, versions = work.spec.paths, work.spec.inputs
        catalog = TableRef(path=paths["assortment"], sha256=versions["assortment"], rows=0)
        frames.append(retrieval_only(one.questions, catalog.read()))
    if one.config.constant:
        frames.append(constant_answer(one.questions, one.rows))
    answers = pl.concat(frames).sort("variant", "dialogue_id")
    if one.config.sem_score:
        began = time.monotonic()
        answers = with_sem_scores(answers, one.questions)
        work.metrics["seconds sem_score"] = round(time.monotonic() - began, 1)
        work.metrics["embedding_model"] = EMBEDDING_MODEL
    path = work.folder / "predictions.parquet"
    answers.write_parquet(path)
    work.output("predictions", path)
    work.metrics["questions"] = one.questions.height
    if one.adapter is not None:
        found = Parity.model_validate_json(one.parity_path.read_text())
        work.output("parity", one.parity_path)
        work.metrics |= {f"parity_{name}": value for name, value in found.model_dump().items()}
        work.metrics["parity_allowed"] = found.allowed


def _answers(one: Evaluation, processes: int) -> pl.DataFrame:
    """All shards as one table; the seconds that each variant took are noted."""
    seconds = {variant.name: 0.0 for variant in one.config.variants}
    frames = []
    for shard in one.shards:
        answers, took = read_shard(shard)
        frames.append(answers)
        seconds[shard.variant.name] += took
    metrics = one.work.metrics
    metrics |= {f"seconds {name}": round(took, 1) for name, took in seconds.items()}
    answered = pl.concat(frames)
    elapsed = sum(seconds.values()) / processes
    metrics["questions_per_second"] = round(answered.height / max(elapsed, 1e-9), 3)
    return answered


def main() -> None:
    """Entry point of the workload."""
    with workload("Answer the evaluation questions.") as work:
        _run(work)


if __name__ == "__main__":
    main()
