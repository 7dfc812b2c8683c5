"""Reads YAML that somebody else may have written: every fault is a YAMLError, and aliases cannot make it grow.

:func:`yaml_fault` describes such an error without the content of the text, which may hold a secret.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_NODES = 200_000
"""How many values a text may have, each alias counted as all that it repeats."""
_LONGEST_REASON = 200
_ONE_CHARACTER = re.compile(r"\\?.|\\x..|\\u....")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


def parse_yaml(text: str) -> Any:
    """Return the values in ``text``. Raises yaml.YAMLError for each text that is no YAML of a sensible size."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("its lists and mappings are nested too deeply") from None


def yaml_fault(error: yaml.YAMLError) -> str:
    """Return place and reason of ``error`` on one short line: "line 3, column 9: found a tab, …".

    Quoted words are left out, because they may be a part of the text; single characters and the parser's own names,
    as '<block end>', stay.
    """
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    reason = " ".join(str(problem or error).split())
    reason = _QUOTED.sub(lambda found: found[0] if _is_own(found[0][1:-1]) else "'…'", reason)
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}…"
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {reason}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: {reason}"
    return reason


def _is_own(word: str) -> bool:
    """Whether the parser itself wrote the quoted ``word``: a single character, or the name of a part of the syntax."""
    return _ONE_CHARACTER.fullmatch(word) is not None or (word.startswith("<") and word.endswith(">"))


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            # Of a day or a number that does not exist.
            problem = f"a value cannot be read: {error}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_NODES:
            raise yaml.YAMLError(f"it has more than {MOST_NODES:,} values, counted with what its aliases repeat")
        return self.construct_document(node)


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many nodes ``node`` is when each alias is written out. Raises yaml.YAMLError when it contains itself.

    ``known``: the sizes of nodes by identity; None while one is counted.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise yaml.YAMLError("an alias repeats what it is in")
        return size
    known[id(node)] = None
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    size = 1 + sum(_size(part, known) for part in parts)
    known[id(node)] = size
    return size
