"""Messages become the tokens a model reads: the same ones in training, evaluation and serving.

Text becomes tokens here and nowhere else; everything else passes token ids on. Gemma's and Llama's
chat templates write the beginning-of-sequence token, and their tokenizers put one before any text:
who renders a text and gives it to the tokenizer (or to vLLM) has two, and a model that reads what
it was not trained on.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from retail_assistant.corpus.rendering import Message

ConversationStyle = Literal["chat", "alpaca"]
"""`chat`: the model's own chat template. `alpaca`: sections, for base models without a template."""

PromptStyle = Literal[ConversationStyle, "plain"]
"""`plain`: text that goes on, with nothing around it but its beginning and its end."""

Item = TypeVar("Item")

# Llama 3.2's template writes today's date if it is told none: other days, other prompts. This is
# the date that Llama 3.1's writes.
TEMPLATE_ARGUMENTS = {"date_string": "26 Jul 2024"}
_BATCH = 1024
_PROBE = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
_ALPACA_INPUT = {"user": "Input", "assistant": "Response"}
_HEADING = re.compile(r"^[ \t]*#{3,}[ \t]*", re.MULTILINE)


class Example(NamedTuple):
    """The tokens of a prompt and its answer: `ids[prompt_length:]` is what is learned."""

    ids: list[int]
    prompt_length: int


class Encoder:
    """Turns conversations into token ids for one tokenizer.

    Raises ValueError where the tokenizer cannot: it has no chat template (style `chat`), or no
    end-of-sequence token to end an answer with.
    """

    def __init__(self, tokenizer: Any, style: PromptStyle = "chat") -> None:
        self.style = style
        self._tokenizer = tokenizer
        if tokenizer.eos_token is None:
            raise ValueError("this model's tokenizer has no end-of-sequence token")
        if style == "chat" and not tokenizer.chat_template:
            raise ValueError(
                "this model's tokenizer has no chat template; allowed: rendering style alpaca, or"
                " an instruction-tuned model"
            )
        self._takes_system = style != "chat" or self._template_takes_system()
        self._start = self._first_of_text() if style != "chat" else []
        self._ending = tokenizer.eos_token if style != "chat" else ""
        self.end_of_turn = self._find_end_of_turn()

    def accepted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the model's own template takes them, for servers that apply it."""
        return list(messages) if self._takes_system else _with_system_in_user(messages)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The text of a prompt, up to where the answer begins."""
        return self._text(messages, complete=False)

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> Iterator[list[int]]:
        """The token ids of each prompt, up to where the answer begins."""
        return self._tokenized(map(self.prompt_text, conversations), self._start)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of one prompt."""
        return next(self.prompts([messages]))

    def examples(
        self, pairs: Iterable[tuple[Sequence[Message], Sequence[Message]]]
    ) -> Iterator[Example]:
        """The token ids of each prompt with its completion, up to the answer's end-of-turn token.

        Raises ValueError where an answer holds an end-of-turn token itself, or where the template
        writes a prompt otherwise once it is answered.
        """
        for batch in _batches(pairs):
            asked = [self.prompt_text(prompt) for prompt, _ in batch]
            whole = [self._text([*prompt, *answer], complete=True) for prompt, answer in batch]
            prompts, ids = self._tokenized(asked, self._start), self._tokenized(whole, self._start)
            yield from map(self._example, asked, whole, prompts, ids)

    def lengths(self, texts: Iterable[str]) -> Iterator[int]:
        """How many tokens each plain text has, without any that a model wants around it."""
        return map(len, self._tokenized(texts, start=[]))

    def documents(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The token ids of plain texts that are learned whole, each with its beginning and end."""
        start, end = self._first_of_text(), [self._tokenizer.eos_token_id]
        yield from ([*ids, *end] for ids in self._tokenized(texts, start))

    def _example(self, asked: str, whole: str, prompt: list[int], ids: list[int]) -> Example:
        if not whole.startswith(asked):
            raise ValueError(f"an answer changes the prompt before it: {asked!r} -> {whole!r}")
        start = len(prompt)
        if ids[:start] != prompt:
            # The answer's first token has swallowed the prompt's last, such as a space. When asked,
            # a model has read the prompt's tokens as they are.
            ids = [*prompt, *next(self._tokenized([whole.removeprefix(asked)], []))]
        ends = [place for place in range(start, len(ids)) if ids[place] == self.end_of_turn]
        if len(ends) != 1:
            answer = whole.removeprefix(asked)
            raise ValueError(f"an answer ends {len(ends)} times, where once is right: {answer!r}")
        # Templates write a line break after it. The model has stopped by then.
        return Example(ids[: ends[0] + 1], start)

    def _tokenized(self, texts: Iterable[str], start: list[int]) -> Iterator[list[int]]:
        for batch in _batches(texts):
            found = self._tokenizer(batch, add_special_tokens=False, return_attention_mask=False)
            yield from ([*start, *ids] for ids in found["input_ids"])

    def _text(self, messages: Sequence[Message], *, complete: bool) -> str:
        if self.style == "alpaca":
            text = _alpaca_text(messages) + ("" if complete else "\n\n### Response:\n")
        elif self.style == "plain":
            text = "".join(message["content"] for message in messages)
        else:
            text = self._by_template(self.accepted(messages), complete=complete)
        return text + (self._ending if complete else "")

    def _by_template(self, messages: Sequence[Message], *, complete: bool) -> str:
        text = self._tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=not complete,
            **TEMPLATE_ARGUMENTS,
        )
        return str(text)

    def _template_takes_system(self) -> bool:
        """Some templates (Gemma 2's) refuse a system message: it then opens the first question."""
        from jinja2 import TemplateError

        try:
            self._by_template([{"role": "system", "content": "s"}, *_PROBE], complete=True)
        except TemplateError:
            return False
        return True

    def _first_of_text(self) -> list[int]:
        """What the tokenizer itself puts before a text."""
        first = self._tokenizer("text")["input_ids"][:1]
        return first if first == [self._tokenizer.bos_token_id] else []

    def _find_end_of_turn(self) -> int:
        """The token that closes an answer; the end of the sequence where a template has none."""
        answered = self._text(_PROBE, complete=True)
        after = answered.rpartition(_PROBE[1]["content"])[2]
        control = {*self._tokenizer.added_tokens_decoder, *self._tokenizer.all_special_ids}
        for one in self._tokenizer(after, add_special_tokens=False)["input_ids"]:
            if one in control:
                return int(one)
        self._ending = self._tokenizer.eos_token
        return int(self._tokenizer.eos_token_id)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _with_system_in_user(messages: Sequence[Message]) -> list[Message]:
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _alpaca_text(messages: Sequence[Message]) -> str:
    """The sections of the Alpaca data set; untrusted text cannot begin one."""
    names = ["Instruction", *(_ALPACA_INPUT[message["role"]] for message in messages[1:])]
    contents = (_HEADING.sub("", message["content"]).strip() for message in messages)
    return "\n\n".join(
        f"### {name}:\n{content}" for name, content in zip(names, contents, strict=True)
    )
