"""YAML that people write, or got from others: plain values, bounded, one clear error.

PyYAML's safe loader makes no objects of Python. It does follow aliases, so that a page of text may
stand for more than any memory holds once it is written out, as an error message would; it keeps the
last of a key's values; and what it makes of `.nan`, `!!int ""` or a day 2026-13-45 is a number that
passes every limit, or an error of Python's own. None of these gets through here.
"""

import math
from collections.abc import Iterator
from typing import Any

import yaml

MOST_CHARACTERS = 8 << 20
"""Of a file, and of all its values when its aliases are written out."""

MOST_DEPTH = 32
_WHY_CHARACTERS = 300


class YamlError(ValueError):
    """A text that is no YAML, or none that is taken; one line that says where and why."""


def parsed_yaml(text: str) -> Any:
    """The one document of a text: mappings, lists and plain values; None where it is empty.

    Raises:
        YamlError: no YAML, tags of Python's, a key twice, a number that is not finite, more than
            `MOST_CHARACTERS`, nested deeper than `MOST_DEPTH`, an alias of what it stands in.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"{len(text)} characters; allowed: {MOST_CHARACTERS}")
    try:
        return _Loader(text).get_single_data()
    except Exception as error:
        # Beside YAMLError whatever Python's own types raise where a scalar is none of theirs:
        # ValueError, KeyError, IndexError, AttributeError.
        why = " ".join(str(error).split())[:_WHY_CHARACTERS]
        raise YamlError(why or type(error).__name__) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what the module's text speaks of."""

    _level = 0

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _extent(node, {})
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._level += 1
        if self._level > MOST_DEPTH:
            raise _refused(self.peek_event(), f"nested deeper than {MOST_DEPTH}")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _refused(key, f"{key.value!r} is given twice")
            seen.add(key.value)
        return node

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        """A number; PyYAML's `.inf` and `.nan` are none that a setting could mean."""
        number = float(self.construct_yaml_float(node))
        if not math.isfinite(number):
            raise _refused(node, f"{node.value}; allowed: finite numbers")
        return number


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)


def _extent(node: yaml.Node, known: dict[yaml.Node, tuple[int, int] | None]) -> tuple[int, int]:
    """Characters and depth of a node when its aliases are written out."""
    if node in known:
        found = known[node]
        if found is None:
            raise _refused(node, "an alias stands in what it is an alias of")
        return found
    known[node] = None
    characters, depth = 1, 1
    if isinstance(node, yaml.ScalarNode):
        characters += len(node.value)
    for child in _children(node):
        more, below = _extent(child, known)
        characters, depth = characters + more, max(depth, below + 1)
    if characters > MOST_CHARACTERS or depth > MOST_DEPTH:
        raise _refused(
            node,
            f"with its aliases written out larger than {MOST_CHARACTERS} characters, or nested"
            f" deeper than {MOST_DEPTH}",
        )
    known[node] = characters, depth
    return characters, depth


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _refused(where: Any, why: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=where.start_mark)
