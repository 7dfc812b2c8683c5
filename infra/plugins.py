"""Loads a plug-in by name: an object that another installed distribution offers as an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from infra.errors import SettingsError
from infra.plugin_names import PluginGroup


def load_plugin(group: PluginGroup, name: str) -> object:
    """Import the object that a distribution offers as ``name`` in ``group``.

    Raises SettingsError when there is none, when two distributions offer it, or when its import fails; the text names
    the distributions.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        raise SettingsError(f"no installed distribution has an entry point {name!r} in the group {group}")
    if len(found) > 1:
        raise SettingsError(
            f"{' and '.join(map(_distribution_of, found))} both have an entry point {name!r} in the group {group}; "
            "uninstall one of them"
        )
    (entry,) = found
    try:
        return entry.load()
    except Exception as error:  # a plug-in may raise anything while it is imported
        raise plugin_error(group, name, f"{type(error).__name__}: {error}") from error


def plugin_error(group: PluginGroup, name: str, reason: str) -> SettingsError:
    """Return the error that says that plug-in ``name`` cannot be used for ``reason``, and which distribution has it."""
    where = ", ".join(_distribution_of(entry) for entry in entry_points(group=group, name=name)) or "no distribution"
    return SettingsError(
        f"the plug-in {name!r} of the group {group} ({where}) cannot be used: {reason}; install a version of it that "
        "works with this version of Standgale, or uninstall it"
    )


def _distribution_of(entry: EntryPoint) -> str:
    return "an unnamed distribution" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
