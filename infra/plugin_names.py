"""Knows the names of installed plug-ins without loading them, and lets a field take such a name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, Literal

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

logger = logging.getLogger(__name__)

PluginGroup = Literal["standgale.sinks", "standgale.heads", "standgale.engines"]
"""The groups of entry points that Standgale reads."""


UNKNOWN_NAME = "unknown_name"
"""The type of pydantic's error for a name that :class:`NameOrPlugin` refuses."""


@dataclass(frozen=True, slots=True)
class NameOrPlugin:
    """Restricts a text field to ``names``, and to what installed distributions offer in ``group``.

    It goes into ``Annotated[str, NameOrPlugin(…)]``. A plug-in is looked up by name, not loaded.
    """

    names: tuple[str, ...]
    group: PluginGroup

    def __get_pydantic_core_schema__(self, source: type[Any], handler: Callable[[type[Any]], CoreSchema]) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.require_known, handler(source))

    def require_known(self, name: str) -> str:
        """Return ``name``; raises a ValueError that lists what it may be."""
        if name in self.names or name in plugin_names(self.group):
            return name
        *most, last = (f"'{one}'" for one in self.names)
        raise PydanticCustomError(
            UNKNOWN_NAME,
            "must be {names} or {last}, or the name of an installed plug-in (an entry point of the group {group})",
            {"names": ", ".join(most), "last": last, "group": self.group},
        )

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}, or the name of an installed plug-in"


def plugin_names(group: PluginGroup) -> tuple[str, ...]:
    """Return the names that installed distributions offer in ``group``, sorted; loads none of them."""
    return tuple(sorted({entry.name for entry in find_plugins(group)}))


def find_plugins(group: PluginGroup, name: str | None = None) -> list[EntryPoint]:
    """Return the entry points of ``group``, or those of them called ``name``."""
    return [entry for entry in entry_points(group=group) if name in (None, entry.name)]


def name_of_distribution(distribution: Distribution | None) -> str:
    """Return name and version of ``distribution``, or where it is when it says neither."""
    if distribution is None:
        return "an unnamed distribution"
    metadata = distribution.metadata
    if "Name" not in metadata or "Version" not in metadata:
        return f"a distribution without complete METADATA in {distribution.locate_file('')}"
    return f"{metadata['Name']} {metadata['Version']}"


@cache
def warn_of_hidden_plugins(group: PluginGroup, names: tuple[str, ...]) -> None:
    """Log, once per process, the plug-ins of ``group`` that are never used because ``names``, which ship, hide them."""
    for entry in find_plugins(group):
        if entry.name in names:
            logger.warning(
                "the plug-in %r of the group %s (%s) is never used: that name belongs to Standgale itself; its author "
                "must give it another name",
                entry.name,
                group,
                name_of_distribution(entry.dist),
            )
