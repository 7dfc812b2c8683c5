"""Reads YAML that somebody else may have written: every fault is a YAMLError, and aliases cannot make it grow."""

from __future__ import annotations

from typing import Any

import yaml

MOST_NODES = 200_000
"""How many values a text may have, each alias counted as all that it repeats."""


def parse_yaml(text: str) -> Any:
    """Return the values in ``text``. Raises yaml.YAMLError for each text that is no YAML of a sensible size."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("its lists and mappings are nested too deeply") from None
    except (ValueError, OverflowError) as error:
        # Of a day or a number that does not exist; the text of the error may quote it, so it is cut.
        raise yaml.YAMLError(f"a value cannot be read: {str(error)[:200]}") from error


class _Loader(yaml.SafeLoader):
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
