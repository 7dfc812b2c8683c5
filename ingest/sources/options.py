"""Reads and writes which frames of a source are wanted, and how it is read, as the database keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast, get_args

from infra.errors import SettingsError
from ingest.acceptance.fields import parse_moment
from ingest.video.options import Selection, SelectionMode, Transport, VideoSource

_WITH_VALUE = {"nth": "every", "rate": "per_second", "scene": "change"}


def parse_selection(text: str) -> Selection:
    """Return what ``text`` selects: every, nth=10, rate=2, key, scene or scene=0.08. Raises SettingsError."""
    mode, equals, value = text.partition("=")
    known = get_args(SelectionMode)
    field = _WITH_VALUE.get(mode)
    if mode not in known or (bool(equals) != (field is not None) and not (mode == "scene" and not equals)):
        raise SettingsError(
            f"frames is {text[:40]!r}; it takes every, nth=10 (each tenth), rate=2 (two a second), key (key frames), "
            "or scene=0.08 (each that differs by 8 % of the brightness)"
        )
    if not equals:
        return Selection(cast("SelectionMode", mode))
    try:
        number: float = int(value) if mode == "nth" else float(value)
    except ValueError:
        raise SettingsError(f"frames is {text[:40]!r}; after {mode}= stands a number") from None
    changes: dict[str, Any] = {str(field): number}
    return Selection(cast("SelectionMode", mode), **changes)


def selection_text(selection: Selection) -> str:
    """Return ``selection`` as :func:`parse_selection` takes it."""
    field = _WITH_VALUE.get(selection.mode)
    return selection.mode if field is None else f"{selection.mode}={getattr(selection, field):g}"


def stored_options(selection: Selection, transport: str, start: str | None) -> dict[str, str]:
    """Return the options as the database keeps them. Raises SettingsError or InvalidCaptureTimeError."""
    if transport not in get_args(Transport):
        raise SettingsError(f"transport is {transport[:40]!r}; it takes {' or '.join(get_args(Transport))}")
    options = {"frames": selection_text(selection), "transport": transport}
    if start is not None:
        options["start"] = parse_moment(start, "start").isoformat()
    return options


def video_source(name: str, address: str, options: dict[str, str]) -> VideoSource:
    """Return what is read for a source with these stored ``options``."""
    start = options.get("start")
    return VideoSource(
        name,
        address,
        selection=parse_selection(options.get("frames", "every")),
        transport=cast("Transport", options.get("transport", "tcp")),
        start=None if start is None else datetime.fromisoformat(start),
    )
