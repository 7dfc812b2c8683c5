"""Makes a sink by the name under which another installed distribution offers it (``standgale.sinks``)."""

from __future__ import annotations

from typing import Any

from infra.consuming.port import Sink
from infra.plugin_names import PluginGroup
from infra.plugins import load_plugin, plugin_error
from schemas.errors import StandgaleError

SINK_PLUGINS: PluginGroup = "standgale.sinks"


def make_sink(name: str) -> Sink[Any]:
    """Load the plug-in ``name`` and call it, without arguments, to make its sink.

    Raises SettingsError that names the distribution when it cannot be loaded, fails, or gives something else.
    """
    factory = load_plugin(SINK_PLUGINS, name)
    if not callable(factory):
        raise plugin_error(SINK_PLUGINS, name, f"{factory!r} is not a class or function that makes a sink")
    try:
        sink: Sink[Any] = factory()
    except StandgaleError:
        raise
    except Exception as error:  # a plug-in may raise anything
        raise plugin_error(SINK_PLUGINS, name, f"{type(error).__name__}: {error}") from error
    missing = [part for part in ("name", "event", "topics", "open", "write", "close") if not hasattr(sink, part)]
    if missing:
        raise plugin_error(SINK_PLUGINS, name, f"its sink {sink!r} has no {', '.join(missing)}")
    if sink.name != name:
        raise plugin_error(SINK_PLUGINS, name, f"its sink has the name {sink.name!r}; both names must be the same")
    return sink
