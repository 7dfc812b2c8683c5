"""Loads a plug-in by name: an object that another installed distribution offers as an entry point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infra.errors import SettingsError
from infra.failure.error_texts import error_text
from infra.plugin_names import PluginGroup, find_plugins, name_of_distribution


def load_plugin(group: PluginGroup, name: str) -> object:
    """Import the object that a distribution offers as ``name`` in ``group``.

    Raises SettingsError when there is none, when two distributions offer it, or when its import fails; the text names
    the distributions.
    """
    found = find_plugins(group, name)
    if not found:
        raise SettingsError(f"no installed distribution has an entry point {name!r} in the group {group}")
    if len(found) > 1:
        raise SettingsError(
            f"{' and '.join(name_of_distribution(entry.dist) for entry in found)} both have an entry point {name!r} in "
            f"the group {group}; uninstall one of them"
        )
    (entry,) = found
    if entry.pattern.match(entry.value) is None:
        raise plugin_error(group, name, f"its entry point {entry.value!r} is not `module:object`")
    with plugin_calls(lambda reason: plugin_error(group, name, reason)):
        plugin: object = entry.load()
    return plugin


@contextmanager
def plugin_calls(make_error: Callable[[str], Exception], *passed: type[Exception]) -> Iterator[None]:
    """Raise what ``make_error`` makes of the text of any error inside the block, also of SystemExit.

    Errors of the types ``passed`` stay as they are, and so does what ends the process or a task from outside.
    """
    unchanged: tuple[type[BaseException], ...] = (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, *passed)
    try:
        yield
    except unchanged:
        raise
    except BaseException as error:  # a plug-in may raise anything
        raise make_error(error_text(error)) from error


def plugin_error(group: PluginGroup, name: str, reason: str) -> SettingsError:
    """Return the error that says that plug-in ``name`` cannot be used for ``reason``, and which distribution has it."""
    return SettingsError(
        f"{plugin_label(group, name)} cannot be used: {reason}; install a version of it that works with this version "
        "of Standgale, or uninstall it"
    )


def plugin_label(group: PluginGroup, name: str) -> str:
    """Return how errors name a plug-in: its name, its group, and the distribution that has it."""
    where = ", ".join(name_of_distribution(entry.dist) for entry in find_plugins(group, name)) or "no distribution"
    return f"the plug-in {name!r} of the group {group} ({where})"
