"""The sinks that ship: which consumer groups each has."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.consuming.consumer_loop import SinkRunner
from schemas.topics import load_topics
from standgale.services.composition import Composition
from standgale.services.sinks import SINKS, make_sink_components, sink_groups
from standgale.settings import load_settings


@pytest.mark.parametrize("name", SINKS)
async def test_sink_groups_are_those_of_the_components_that_run(name: str, tmp_path: Path) -> None:
    settings = load_settings(None, {"data_dir": tmp_path})
    process = Composition(settings, "test")
    running = [each.name for each in make_sink_components(process, name, None) if isinstance(each, SinkRunner)]
    assert list(sink_groups(name, settings, load_topics())) == running


def test_rebuild_of_statistics_by_faust_resets_the_group_of_faust(tmp_path: Path) -> None:
    settings = load_settings(None, {"data_dir": tmp_path, "statistics.engine": "faust"})
    assert sink_groups("statistics", settings, load_topics()) == {
        "sink.statistics.faust": ("detections",),
        "sink.statistics-table": ("stats",),
    }
