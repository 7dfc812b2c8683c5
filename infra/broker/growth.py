"""Decides which partition counts may be raised: those of a topic set with ``grown_from``, once all topics are read.

The rules are the same for every broker. A key moves to another partition when the count changes. Its order survives
only when everything in its former partition was read before anything is written to its new one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from infra.broker.port import TopicDifference
from infra.errors import TopicMismatchError
from schemas.topics import TopicSpec


def topics_to_grow(specs: Collection[TopicSpec], counts: Mapping[str, int]) -> list[TopicSpec]:
    """Return the topics whose count is still the one they are declared to grow from.

    A topic set in which any topic has a third count is left out: its topics would not be co-partitioned afterwards.
    """
    wrong = {
        spec.group for spec in specs if counts.get(spec.name, spec.partitions) not in (spec.partitions, spec.grown_from)
    }
    return [
        spec
        for spec in specs
        if spec.group not in wrong and spec.grown_from is not None and counts.get(spec.name) == spec.grown_from
    ]


def count_differences(
    specs: Collection[TopicSpec], counts: Mapping[str, int], lags: Mapping[str, Mapping[str, int]]
) -> list[TopicDifference]:
    """Return a difference for each topic whose partition count is not the declared one.

    ``lags`` has, for each topic that is to grow, the consumer groups that have not read all of it, and how many records
    each has left. While there are any, no topic of its topic set grows.
    """
    growing = {spec.name: spec for spec in topics_to_grow(specs, counts)}
    held = {spec.group for name, spec in growing.items() if lags.get(name)}
    differences = []
    for spec in specs:
        found = counts.get(spec.name)
        if found is None or found == spec.partitions:
            continue
        fixable = spec.name in growing and spec.group not in held
        text = str(found)
        if lags.get(spec.name):
            behind = ", ".join(f"{group} by {lag}" for group, lag in sorted(lags[spec.name].items()))
            text += f" (read only in part: behind are the groups {behind})"
        differences.append(TopicDifference(spec.name, "partitions", str(spec.partitions), text, fixable))
    return differences


def raise_for_differences(differences: Collection[TopicDifference], where: str) -> None:
    """Raise TopicMismatchError, naming all of them, when apply can neither correct nor ignore some ``differences``."""
    rest = [one for one in differences if not one.fixable and one.advice is None]
    if rest:
        rest_text = "; ".join(f"{one.topic}: {one.what} {one.declared} declared, {one.found} found" for one in rest)
        few = any(one.what == "replication" for one in rest)
        fewer_nodes = (
            "; where a cluster has fewer nodes, set STANDGALE_BROKER__REPLICATION (1 for one node)" if few else ""
        )
        raise TopicMismatchError(
            f"{where} cannot be brought in line without losing order or data, so nothing was changed: {rest_text}. "
            "Declare what exists, or move to new topics; to add partitions follow `More partitions` in "
            f"docs/operations.md{fewer_nodes}"
        )
