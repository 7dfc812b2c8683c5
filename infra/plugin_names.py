"""Knows the names of installed plug-ins without loading them, and lets a field take such a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic_core import CoreSchema, core_schema

PluginGroup = Literal["standgale.sinks", "standgale.heads", "standgale.engines"]
"""The groups of entry points that Standgale reads."""


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
        """Return ``name``; raises ValueError that lists what it may be."""
        if name in self.names or name in plugin_names(self.group):
            return name
        *most, last = (f"'{one}'" for one in self.names)
        raise ValueError(
            f"must be {', '.join(most)} or {last}, or the name of an installed plug-in (an entry point of the group "
            f"{self.group})"
        )

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}, or the name of an installed plug-in"


def plugin_names(group: PluginGroup) -> tuple[str, ...]:
    """Return the names that installed distributions offer in ``group``, sorted; loads none of them."""
    return tuple(sorted(entry_points(group=group).names))
