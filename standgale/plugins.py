"""Makes a sink by the name under which another installed distribution offers it (``standgale.sinks``)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.consuming.port import Sink
from infra.plugin_names import PluginGroup
from infra.plugins import load_plugin, plugin_calls, plugin_error, plugin_label
from schemas.errors import StandgaleError
from schemas.event_base import Event
from schemas.topics import TopicSpec

SINK_PLUGINS: PluginGroup = "standgale.sinks"

_CALLS = ("open", "write", "close")


def make_sink(name: str, topics: Mapping[str, TopicSpec]) -> Sink[Any]:
    """Load the plug-in ``name`` and call it, without arguments, to make its sink, which reads some of ``topics``.

    Raises SettingsError that names the distribution when it cannot be loaded, fails, or gives something else.
    """
    factory = load_plugin(SINK_PLUGINS, name)
    if not callable(factory):
        raise plugin_error(SINK_PLUGINS, name, f"{factory!r} is not a class or function that makes a sink")
    with plugin_calls(lambda reason: plugin_error(SINK_PLUGINS, name, reason), StandgaleError):
        sink: Sink[Any] = factory()
        against = _why_no_sink(sink, name, topics)
        if against is None:
            return _PluginSink(sink, plugin_label(SINK_PLUGINS, name))
    raise plugin_error(SINK_PLUGINS, name, against)


def _why_no_sink(sink: Sink[Any], name: str, topics: Mapping[str, TopicSpec]) -> str | None:
    """Return what is wrong with what a plug-in gave as the sink ``name``; None when nothing is."""
    missing = [part for part in ("name", "event", "topics", *_CALLS) if not hasattr(sink, part)]
    if missing:
        return f"its sink {sink!r} has no {', '.join(missing)}"
    if sink.name != name:
        return f"its sink has the name {sink.name!r}; both names must be the same"
    plain = [call for call in _CALLS if not inspect.iscoroutinefunction(getattr(sink, call))]
    if plain:
        return f"{', '.join(plain)} of its sink must be `async def`"
    return _why_no_event(sink.event) or _why_no_topics(sink.topics, sink.event, topics)


def _why_no_event(event: object) -> str | None:
    if isinstance(event, type) and issubclass(event, Event) and getattr(event, "event_name", None):
        return None
    return f"event of its sink is {event!r}, not a class of schemas.events"


def _why_no_topics(given: object, event: type[Event], topics: Mapping[str, TopicSpec]) -> str | None:
    """Return why a sink of ``event`` cannot read the topics ``given``; None when it can."""
    if not isinstance(given, tuple) or not given or not all(isinstance(topic, str) for topic in given):
        return f"topics of its sink is {given!r}, not a tuple with the name of at least one topic"
    carriers = [spec.name for spec in topics.values() if event.event_name in spec.events]
    wrong = [topic for topic in given if topic not in carriers]
    if wrong:
        return (
            f"its sink reads {event.event_name} from {', '.join(wrong)}; the topics with that event are "
            f"{', '.join(carriers) or 'none'} (topics.yaml)"
        )
    return None


class _PluginSink:
    """A plug-in's sink, which cannot end the process: SystemExit and its like are errors of the call."""

    def __init__(self, sink: Sink[Any], label: str) -> None:
        self.name, self.event, self.topics = sink.name, sink.event, sink.topics
        self._sink = sink
        self._make_error: Callable[[str], Exception] = lambda reason: RuntimeError(f"{label} failed: {reason}")

    async def open(self) -> None:
        with plugin_calls(self._make_error, Exception):
            await self._sink.open()

    async def write(self, events: Sequence[Any]) -> None:
        with plugin_calls(self._make_error, Exception):
            await self._sink.write(events)

    async def close(self) -> None:
        with plugin_calls(self._make_error, Exception):
            await self._sink.close()
