"""A model's answer while it is written: what may be said of it, as soon as it may be said."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from retail_assistant.corpus.rendering import visible_text
from retail_assistant.serving.forbidden import forbidden
from retail_assistant.serving.guard import Reviewer, sentences
from retail_assistant.serving.record_words import RecordWords
from retail_assistant.serving.turns import Correction, Written

NOTHING_LEFT = "Our catalog does not say."
_BROKEN_OFF = "... "
_LEFT_OUT = "... our catalog does not say."
"""In place of the rest of a sentence whose beginning was said already."""


@dataclass
class Progress:
    """How far an answer is: what was said of it, what was corrected, and how it ended."""

    said: str = ""
    corrections: list[Correction] = field(default_factory=list)
    end: Written = field(default_factory=Written)


async def reviewed(
    written: AsyncIterator[Written], reviewer: Reviewer, progress: Progress
) -> AsyncGenerator[str, None]:
    """A model's pieces as they may be said.

    Words of the records are passed on as they are written. From the first other word on a sentence
    waits until it is whole and has been compared with the records.
    """
    waiting, told = "", 0
    async for piece in written:
        progress.end = piece
        waiting += shown_text(piece.text)
        whole = ""
        for part in list(sentences(waiting)):
            whole += part
            if reviewer.words.spans(whole):
                continue
            yield _said(_allowed(whole, told, reviewer, progress), progress)
            waiting, told, whole = waiting[len(whole) :], 0, ""
        safe = _safe_length(waiting, reviewer.words)
        if safe > told:
            yield _said(waiting[told:safe], progress)
            told = safe
    yield _said(_allowed(waiting, told, reviewer, progress), progress)


def shown_text(text: str) -> str:
    """A piece of an answer as it is shown: line breaks stay, other control characters, which move a
    terminal's cursor, and invisible ones, which hide words, do not.
    """
    return "\n".join(map(visible_text, text.split("\n")))


def _said(text: str, progress: Progress) -> str:
    """What is passed on: without blank lines, which what was left out leaves behind."""
    if not progress.said or progress.said.endswith("\n"):
        text = text.lstrip()
    progress.said += text
    return text


def _safe_length(text: str, words: RecordWords) -> int:
    """How many characters may be said before the sentence is whole: those of safe words.

    The last word may go on; what there is of it waits for no blank if it is a safe word itself.
    """
    length = 0
    for end in (place for place, character in enumerate(text) if character.isspace()):
        if not words.are_safe(text[length:end]):
            break
        length = end
    else:
        if text[-1:].isalpha() and words.are_safe(text[length:]):
            length = len(text)
    # What is harmless word by word need not be so together.
    found = forbidden(text[:length], words.names)
    return length if found is None else found[1].start()


def _allowed(sentence: str, told: int, reviewer: Reviewer, progress: Progress) -> str:
    """What is still to be said of a sentence whose beginning was said already."""
    review = reviewer.review(sentence)
    progress.corrections.extend(review.corrections)
    beginning = sentence[:told]
    if review.text.startswith(beginning):
        return review.text[told:]
    if review.text:
        return _BROKEN_OFF + review.text
    return _LEFT_OUT + sentence[len(sentence.rstrip()) :] if beginning.strip() else ""
