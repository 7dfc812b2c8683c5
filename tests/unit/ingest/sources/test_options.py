"""Checks the options of sources as people write them and as the database keeps them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.errors import SettingsError
from ingest.sources.options import parse_selection, selection_text, stored_options, video_source
from ingest.video.options import Selection


@pytest.mark.parametrize("text", ["every", "nth=10", "rate=2", "rate=0.5", "key", "scene=0.08"])
def test_a_selection_is_kept_as_it_was_given(text: str) -> None:
    assert selection_text(parse_selection(text)) == text


def test_scene_alone_has_a_usual_difference() -> None:
    assert parse_selection("scene") == Selection("scene")


@pytest.mark.parametrize("text", ["", "all", "nth", "nth=", "nth=a", "nth=0", "rate=-1", "rate=nan", "every=2"])
def test_a_wrong_selection_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_selection(text)


def test_a_source_is_what_was_stored() -> None:
    options = stored_options(parse_selection("rate=2"), "udp", "2026-05-01T12:00:00+02:00")
    source = video_source("gate", "rtsp://cam/1", options)
    assert (source.selection, source.transport) == (Selection("rate", per_second=2.0), "udp")
    assert source.start == datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_a_wrong_transport_is_refused() -> None:
    with pytest.raises(SettingsError, match="tcp or udp"):
        stored_options(parse_selection("every"), "sctp", None)
