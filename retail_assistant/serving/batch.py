"""A file of questions answered into a file of answers, in order; nothing of it is lost.

`python -m retail_assistant.serving.batch --spec spec.json` does it for the asset
`answered_questions`, `retail-assistant batch` for a person. Every line of the input has a line in
the output: its answer, or an error and why. A run that was killed is gone on with.
"""

import asyncio
import json
import pkgutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from retail_assistant.corpus.draws import stable_digest
from retail_assistant.corpus.labelled_text_files import MAX_FILE_BYTES, read_text_rows
from retail_assistant.corpus.rendering import Message
from retail_assistant.launch.workload import workload
from retail_assistant.line_files import continued_file
from retail_assistant.serving.options import ServingSettings, get_serving_settings
from retail_assistant.serving.turns import Answering, ModelAwayError, TurnResult
from retail_assistant.storage import file_sha256

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
CONCURRENCY = 8
AWAY_SECONDS = 60.0
"""How long a model that does not answer is asked again before the run ends."""
ANSWERING = "retail_assistant.serving.server:open_answering"
"""What opens the assistant that answers: module:function."""
# Turns that are begun before the first of them is written, for each one at a time.
_AHEAD = 4

OpenAnswering = Callable[[], AbstractAsyncContextManager[Answering]]
Reason = Literal["bad_line", "timeout", "failed"]


class BatchError(ValueError):
    """A batch that cannot be answered, or not to its end; says why and what to do."""


class _Said(BaseModel):
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1)


class _Line(BaseModel):
    """What a line of the input may say; other fields are not read."""

    id: str | int | None = None
    question: str | None = Field(default=None, min_length=1)
    messages: list[_Said] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.question is None) == (self.messages is None):
            raise ValueError("allowed: `question`, or `messages`")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("the last of `messages` is not the user's")
        return self


class Request(NamedTuple):
    """A line of the input: its number from 1, and what it asks, or why that cannot be read."""

    row: int
    id: str | int | None
    digest: str
    messages: list[Message]
    problem: str | None = None


class BatchCounts(NamedTuple):
    """What the output has: lines, those of an earlier run, answers, declined ones, errors."""

    lines: int
    kept: int
    answered: int
    declined: int
    errors: dict[str, int]


def read_requests(path: Path) -> list[Request]:
    """Every line of a file: {"question": …} or {"messages": […]}, with an optional "id".

    A .csv, .tsv or .parquet file has the columns question and, if any, id. Empty lines are none.

    Raises:
        BatchError, LabelledTextError: another kind of file, too large, no UTF-8, or no lines.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BatchError(f"{path}: allowed: a file ending in {', '.join(SUFFIXES)}")
    found = list(_json_lines(path) if suffix == ".jsonl" else _table_rows(path))
    if not found:
        raise BatchError(f"{path}: no lines; allowed: a file with questions")
    return found


def answer_file(
    opening: OpenAnswering,
    requests: Sequence[Request],
    output: Path,
    *,
    settings: ServingSettings,
    resume: bool = False,
    concurrency: int = CONCURRENCY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BatchCounts:
    """Write a line a request into `output` (.jsonl): row, id, request, and answer with result.

    Or `error`, with `reason` and `detail`. `request` is a hash of the input's line. The assistant
    is only opened if there is something to answer.

    Raises:
        BatchError: another kind of output, one that is of other requests, or the model is away;
            what was written stays, and `resume` goes on with it.
        ValueError: the output is there without `resume`, or another run is writing to it.
    """
    if output.suffix != ".jsonl":
        raise BatchError(f"{output}: allowed: a file ending in .jsonl")
    written = partial(_written, output, requests)
    with continued_file(output, written, resume=resume) as (stream, outcomes):
        kept = outcomes.total()

        def write(line: dict[str, Any]) -> None:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            outcomes[_outcome(line)] += 1
            progress(outcomes.total(), len(requests))

        left = requests[kept:]
        if left:
            try:
                asyncio.run(_answer_all(opening, left, write, settings, concurrency))
            except ModelAwayError as error:
                raise BatchError(
                    f"no model answers ({error}); {outcomes.total()} of {len(requests)} lines are"
                    f" in {output}, --resume goes on with the rest"
                ) from error
    errors = {reason: outcomes[reason] for reason in get_args(Reason) if outcomes[reason]}
    total, declined = outcomes.total(), outcomes["declined"]
    return BatchCounts(total, kept, total - sum(errors.values()), declined, errors)


def opening_of(named: str) -> OpenAnswering:
    """The function of a name such as ANSWERING."""
    return cast(OpenAnswering, pkgutil.resolve_name(named))


async def _answer_all(
    opening: OpenAnswering,
    requests: Sequence[Request],
    write: Callable[[dict[str, Any]], None],
    settings: ServingSettings,
    concurrency: int,
) -> None:
    """Answer several at a time, and write in order."""
    slots = asyncio.Semaphore(concurrency)
    begun: deque[asyncio.Task[dict[str, Any]]] = deque()
    async with opening() as answering:
        try:
            for request in requests:
                turn = _line(answering, request, settings, slots)
                begun.append(asyncio.create_task(turn))
                if len(begun) >= _AHEAD * concurrency:
                    write(await begun.popleft())
            while begun:
                write(await begun.popleft())
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)


async def _line(
    answering: Answering, request: Request, settings: ServingSettings, slots: asyncio.Semaphore
) -> dict[str, Any]:
    """A request's line of the output."""
    line: dict[str, Any] = {"row": request.row, "id": request.id, "request": request.digest}
    if request.problem is not None:
        return line | _error("bad_line", request.problem)
    async with slots:
        try:
            text, result = await _turn(answering, request, settings)
        except ModelAwayError:
            raise
        except TimeoutError:
            return line | _error("timeout", f"no answer in {settings.turn_seconds:g} s")
        except Exception as error:  # one turn's, which must not take the others with it
            return line | _error("failed", f"{type(error).__name__}: {error}")
    return line | {"answer": text, "result": result.model_dump(mode="json")}


async def _turn(
    answering: Answering, request: Request, settings: ServingSettings
) -> tuple[str, TurnResult]:
    """The answer; while the model is away it is asked again."""
    loop = asyncio.get_running_loop()
    ends, wait = loop.time() + AWAY_SECONDS, 0.5
    while True:
        try:
            async with asyncio.timeout(settings.turn_seconds):
                return await _whole(answering, request, settings.max_answer_tokens)
        except ModelAwayError:
            if loop.time() + wait > ends:
                raise
        await asyncio.sleep(wait)
        wait = min(2 * wait, 10.0)


async def _whole(answering: Answering, request: Request, max_tokens: int) -> tuple[str, TurnResult]:
    pieces: list[str] = []
    result: TurnResult | None = None
    async for piece in answering.turn(request.messages, max_tokens):
        if isinstance(piece, TurnResult):
            result = piece
        else:
            pieces.append(piece)
    if result is None:
        raise RuntimeError("the answer ended without saying what it was made from")
    return "".join(pieces), result


def _error(reason: Reason, detail: str) -> dict[str, Any]:
    return {"error": {"reason": reason, "detail": detail}}


def _json_lines(path: Path) -> Iterator[Request]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BatchError(f"{path}: allowed: up to {MAX_FILE_BYTES >> 20} MiB")
    # Not splitlines(): JSON strings may hold the line separators of Unicode.
    lines = filter(bytes.strip, path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    for row, line in enumerate(lines, start=1):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = f"not JSON: {' '.join(str(error).split())[:200]}"
            yield Request(row, None, _digest(line.decode("utf-8", "replace")), [], why)
            continue
        yield _request(row, fields)


def _table_rows(path: Path) -> Iterator[Request]:
    columns, rows = read_text_rows(path)
    if "question" not in columns:
        raise BatchError(f"{path}: no column question; allowed: columns question and id")
    for one in rows:
        fields = {name: one.fields.get(name) or None for name in ("id", "question")}
        if one.problem:
            yield Request(one.number, None, _digest(one.problem), [], one.problem)
        else:
            yield _request(one.number, fields)


def _request(row: int, fields: Any) -> Request:
    digest = _digest(json.dumps(fields, sort_keys=True))
    try:
        line = _Line.model_validate(fields)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the line'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        given = fields.get("id") if isinstance(fields, dict) else None
        return Request(row, given if isinstance(given, str | int) else None, digest, [], told[:400])
    said = line.messages or [_Said(role="user", content=line.question or "")]
    return Request(row, line.id, digest, [one.model_dump() for one in said])


def _digest(text: str) -> str:
    return stable_digest("batch", text)


def _written(output: Path, requests: Sequence[Request], lines: Sequence[str]) -> Counter[str]:
    """The outcomes of an earlier run's lines, if they are of these requests."""
    outcomes: Counter[str] = Counter()
    other = BatchError(f"{output} is of other questions; allowed: another file")
    if len(lines) > len(requests):
        raise other
    for text, request in zip(lines, requests, strict=False):
        try:
            line = json.loads(text)
            same = (line["row"], line["request"]) == (request.row, request.digest)
            outcomes[_outcome(line)] += 1
        except (ValueError, TypeError, KeyError) as error:
            raise other from error
        if not same:
            raise other
    return outcomes


def _outcome(line: dict[str, Any]) -> str:
    """A line's reason of error, "declined" or "answered"."""
    if "error" in line:
        return str(line["error"]["reason"])
    return "declined" if line["result"]["declined"] else "answered"


def main() -> None:
    """Entry point of the workload."""
    with workload("Answer a file of questions.") as work:
        questions = work.spec.paths["questions"]
        if file_sha256(questions) != work.spec.inputs["questions"]:
            raise BatchError(f"{questions} has changed since this was begun; materialize again")
        answers = work.folder / "answers.jsonl"
        counts = answer_file(
            opening_of(work.spec.execution.get("answering", ANSWERING)),
            read_requests(questions),
            answers,
            settings=get_serving_settings(),
            resume=True,
            progress=partial(work.progress, note="questions"),
        )
        work.output("answers", answers)
        work.metrics = counts._asdict()


if __name__ == "__main__":
    main()
