"""The words of the records that an answer is made from: which may be said before all is read."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from retail_assistant.catalog.keywords import stop_words
from retail_assistant.corpus.rendering import item_code, render_record, rendered_attributes
from retail_assistant.serving.forbidden import PRAISE

FRAME = frozenset({"catalog", "price", "category", "brand", "item", "name"})
"""What records call their own lines."""

_WORDS_OF_A_VALUE = 6
"""Longer ones are sentences."""

_CONTEXT = 6
_WORD = re.compile(r"[^\W_]+")
_JOINED = re.compile(r"[^\W_][.:/\\@]+[^\W_]|://|[@<>\[\]{}|\\]")


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return _WORD.findall(text.casefold())


class RecordWords:
    """The words of some records, and of the question that they are to answer."""

    def __init__(self, question: str, records: Sequence[Mapping[str, Any]]) -> None:
        self._question, self._records = question, records

    @cached_property
    def names(self) -> list[str]:
        """How the records' products are called."""
        return [str(record["name"]) for record in self._records]

    @cached_property
    def shown(self) -> frozenset[str]:
        """Every word that a record shows."""
        return frozenset(words_of(" ".join(map(render_record, self._records))))

    @cached_property
    def safe(self) -> frozenset[str]:
        """Words that may be said before their sentence is known: the records' and small ones.

        Not all of the records': a long value may be an order to the model, and obeying it takes its
        words. Nor numbers, which may be prices, and praise, but where a name has them.
        """
        named, told = set[str](), set[str]()
        for record in self._records:
            known = (record["name"], record.get("brand"), item_code(record["product_id"]))
            named.update(words_of(" ".join(filter(None, known))))
            kinds = (record.get("subcategory"), record.get("category"))
            pairs = rendered_attributes(record)
            shown = [text for pair in pairs for text in pair] + list(filter(None, kinds))
            told.update(*(w for w in map(words_of, shown) if len(w) <= _WORDS_OF_A_VALUE))
        told.update(words_of(self._question), FRAME)
        careful = {one for one in told if one.isdecimal() or PRAISE.search(one)}
        return frozenset(named | (told - careful)) | stop_words()

    def are_safe(self, text: str) -> bool:
        """Whether a piece of text holds only safe words: no address, no markup."""
        return not _JOINED.search(text) and self.safe.issuperset(words_of(text))

    def spans(self, text: str) -> bool:
        """Whether the end of a text stands in the middle of a record's name."""
        around = text[-_CONTEXT:].strip()
        return any(around in name and not name.endswith(around) for name in self.names)
