"""Plug-ins that fail, or end the process, when they are called: errors name them, and the service continues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors.errors import InferenceError, ModelLoadError
from detectors.heads.choice import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.port import Head, HeadRequest
from detectors.model.loading import LoadRequest, load_model
from infra.errors import SettingsError
from schemas.topics import load_topics
from standgale.plugins import make_sink
from standgale.testing.factories import detections_made
from standgale.testing.graphs import GraphSpec, write_model
from standgale.testing.sink_site import SinkSite
from standgale.testing.waiting import until
from tests.harnesses.plugin_projects import PluginProject

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "failing-plugins"
version = "1.5"
[tool.hatch.build.targets.wheel]
only-include = ["failing_sinks.py", "failing_engines.py", "failing_heads.py"]
[project.entry-points."standgale.sinks"]
no_topics = "failing_sinks:NoTopics"
text_topics = "failing_sinks:TextTopics"
other_topics = "failing_sinks:OtherTopics"
unknown_topics = "failing_sinks:UnknownTopics"
number_event = "failing_sinks:NumberEvent"
no_event = "failing_sinks:NoEvent"
plain_calls = "failing_sinks:PlainCalls"
exits_made = "failing_sinks:ExitsMade"
exits = "failing_sinks:Exits"
[project.entry-points."standgale.engines"]
late = "failing_engines:LATE"
exits_late = "failing_engines:EXITS_LATE"
why_not = "failing_engines:WHY_NOT"
identity = "failing_engines:IDENTITY"
ways = "failing_engines:WAYS"
no_ways = "failing_engines:NO_WAYS"
load = "failing_engines:LOAD"
incomplete = "failing_engines:INCOMPLETE"
openvino = "failing_engines:LATE"
[project.entry-points."standgale.heads"]
exits_made = "failing_heads:exits"
fails = "failing_heads:Fails"
number = "failing_heads:Number"
mismatch = "failing_heads:Mismatch"
"""
SINKS = """
import sys
from schemas.events import DetectionsMade

class Exits:
    name, event, topics = "exits", DetectionsMade, ("detections",)
    written = []
    exits_at_open = False
    async def open(self):
        if self.exits_at_open:
            sys.exit(0)
    async def write(self, events):
        if any(event.device_id == "poison" for event in events):
            sys.exit(0)
        self.written.extend(events)
    async def close(self):
        sys.exit(0)

class NoTopics(Exits):
    name, topics = "no_topics", ()

class TextTopics(Exits):
    name, topics = "text_topics", "detections"

class OtherTopics(Exits):
    name, topics = "other_topics", ("detections", "frames.live")

class UnknownTopics(Exits):
    name, topics = "unknown_topics", ("elsewhere",)

class NumberEvent(Exits):
    name, event = "number_event", int

class NoEvent(Exits):
    name, event = "no_event", None

class PlainCalls(Exits):
    name = "plain_calls"
    def open(self): ...
    def close(self): ...

class ExitsMade:
    def __init__(self):
        sys.exit(0)
"""
ENGINES = """
import sys
from dataclasses import replace
from detectors.engines.port import Way
from detectors.engines.registry import ENGINES, EngineEntry

class Engine:
    def __init__(self, request):
        self.inner = ENGINES["onnxruntime"].load(request)
        self.name, self.reason, self.batch_size, self.parallel = "late", "a test", 1, 1
        self.runs = 0
    def run(self, tiles):
        self.runs += 1
        if self.runs > 1:
            self.fail()
        return self.inner.run(tiles)
    def fail(self):
        raise ZeroDivisionError("run is odd")
    def close(self):
        sys.exit(0)

class ExitingEngine(Engine):
    def fail(self):
        sys.exit(0)

class Incomplete:
    name, reason, batch_size, parallel = "incomplete", "a test", 0, 1

def fail(*arguments):
    raise ZeroDivisionError("this is odd")

def entry(name, **parts):
    usual = dict(
        why_not=lambda: None, identity=lambda: "1", ways=lambda request, dynamic: [Way(name, "f32")], load=Engine
    )
    return EngineEntry(name=name, **{**usual, **parts})

LATE = entry("late")
EXITS_LATE = entry("exits_late", load=ExitingEngine)
WHY_NOT = entry("why_not", why_not=fail)
IDENTITY = entry("identity", identity=fail)
WAYS = entry("ways", ways=fail)
NO_WAYS = entry("no_ways", ways=lambda request, dynamic: ["f32"])
LOAD = entry("load", load=lambda request: sys.exit(0))
INCOMPLETE = entry("incomplete", load=lambda request: Incomplete())
"""
HEADS = """
import sys

def exits(request):
    sys.exit(0)

class Fails:
    def __init__(self, request): ...
    def mismatch(self, shapes): ...
    def decode(self, outputs, confidence):
        sys.exit(0)

class Number(Fails):
    def decode(self, outputs, confidence):
        return 3

class Mismatch(Fails):
    def mismatch(self, shapes):
        raise ZeroDivisionError("shapes are odd")
"""
TILE = np.zeros((1, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PluginProject:
    modules = {"failing_sinks.py": SINKS, "failing_engines.py": ENGINES, "failing_heads.py": HEADS}
    project = PluginProject(tmp_path_factory.mktemp("plug-in"), {"pyproject.toml": PYPROJECT, **modules})
    project.install()
    return project


@pytest.fixture(autouse=True)
def _installed(project: PluginProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project.installed))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_topics", "topics of its sink is (), not a tuple"),
        ("text_topics", "topics of its sink is 'detections', not a tuple"),
        ("other_topics", "its sink reads detections.made from frames.live; the topics with that event are detections"),
        ("unknown_topics", "its sink reads detections.made from elsewhere; "),
        ("number_event", "event of its sink is <class 'int'>, not a class of schemas.events"),
        ("no_event", "event of its sink is None, not a class of schemas.events"),
        ("plain_calls", "open, close of its sink must be `async def`"),
        ("exits_made", "SystemExit: 0"),
    ],
)
def test_make_sink_refuses_what_could_not_work(name: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_sink(name, load_topics())
    assert f"the plug-in '{name}' of the group standgale.sinks (failing-plugins 1.5) cannot be used: {expected}" in str(
        caught.value
    )


async def test_exit_in_a_write_counts_as_an_error_of_its_record(tmp_path: Path) -> None:
    sink = make_sink("exits", load_topics())
    events = [detections_made(number, device="poison" if number == 3 else f"drone-{number % 2}") for number in range(8)]
    site = SinkSite(tmp_path)
    await site.publish("detections", events)

    async def done() -> bool:
        return await site.lag(sink) == 0

    with pytest.raises(RuntimeError, match=r"'exits' .* \(failing-plugins 1\.5\) failed: SystemExit: 0"):  # its close
        async with site.running(sink):
            await until(done, "the sink has not committed everything")
    (letter,) = await site.dead_letters()
    assert (letter.device_id, letter.reason) == ("poison", "UNEXPECTED_ERROR")
    assert "the plug-in 'exits' of the group standgale.sinks (failing-plugins 1.5) failed: SystemExit" in letter.message
    import failing_sinks

    assert sorted(event.id for event in failing_sinks.Exits.written) == sorted(
        event.id for event in events if event.device_id != "poison"
    )
    await site.close()


async def test_exit_at_open_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = make_sink("exits", load_topics())
    import failing_sinks

    monkeypatch.setattr(failing_sinks.Exits, "exits_at_open", True)
    with pytest.raises(RuntimeError, match="SystemExit: 0"):
        await sink.open()


def test_sink_command_with_a_plug_in_that_exits_ends_with_an_error(project: PluginProject, tmp_path: Path) -> None:
    output = project.python("standgale", "sink", "exits_made", status=1, STANDGALE_DATA_DIR=str(tmp_path / "data"))
    assert "(failing-plugins 1.5) cannot be used: SystemExit: 0" in output


@pytest.mark.parametrize("engine", ["late", "exits_late"])
def test_a_shipped_engine_takes_over_when_a_plug_in_fails_on_a_batch(tmp_path: Path, engine: str) -> None:
    card = write_model(tmp_path, GraphSpec())
    model = load_model(LoadRequest(card, engine, threads=1))
    expected = load_model(LoadRequest(card, "onnxruntime", threads=1)).engine.run(TILE)
    for mine, shipped in zip(model.engine.run(TILE), expected, strict=True):
        np.testing.assert_allclose(mine, shipped, atol=1e-3)
    model.engine.close()


def test_without_fallback_the_failure_of_a_run_names_the_plug_in(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path, GraphSpec()), "late", threads=1, fallback=False))
    expected = r"'late' of the group standgale\.engines \(failing-plugins 1\.5\) failed: ZeroDivisionError: run is odd"
    with pytest.raises(InferenceError, match=expected):
        model.engine.run(TILE)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("why_not", "failed in why_not: ZeroDivisionError: this is odd"),
        ("identity", "failed in identity: ZeroDivisionError: this is odd"),
        ("ways", "failed in ways: ZeroDivisionError: this is odd"),
        ("no_ways", "failed in ways: TypeError: 'f32' is not a Way"),
        ("load", "failed in load: SystemExit: 0"),
        ("incomplete", "failed in load: TypeError: batch_size of its engine is 0, not a number from 1 on"),
    ],
)
def test_an_engine_that_fails_before_its_first_run_is_named(tmp_path: Path, engine: str, expected: str) -> None:
    wanted = LoadRequest(write_model(tmp_path, GraphSpec()), engine, threads=1, engines_folder=tmp_path / "engines")
    with pytest.raises(ModelLoadError) as caught:
        load_model(wanted)
    assert f"the plug-in '{engine}' of the group standgale.engines (failing-plugins 1.5) {expected}" in str(
        caught.value
    )


def head_of(layout: str) -> Head:
    return choose_head(layout, HeadRequest(64, 64, ClassNumbers(3)), [(1, 20, 6)], {})


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("exits_made", "cannot be used: SystemExit: 0"), ("mismatch", "failed: ZeroDivisionError: shapes are odd")],
)
def test_a_head_that_fails_before_it_decodes_is_named(layout: str, expected: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        head_of(layout)
    assert f"the plug-in '{layout}' of the group standgale.heads (failing-plugins 1.5) {expected}" in str(caught.value)


@pytest.mark.parametrize(("layout", "expected"), [("fails", "SystemExit: 0"), ("number", "it gave int, not RawBoxes")])
def test_a_head_that_cannot_decode_raises_an_inference_error(layout: str, expected: str) -> None:
    head = head_of(layout)
    with pytest.raises(InferenceError) as caught:
        head.decode((np.zeros((1, 20, 6), np.float32),), 0.5)
    assert f"the plug-in '{layout}' of the group standgale.heads (failing-plugins 1.5) failed: {expected}" in str(
        caught.value
    )


def test_a_plug_in_with_the_name_of_a_shipped_engine_is_in_the_log(project: PluginProject) -> None:
    code = (
        "from detectors.engines.registry import usable_engines\nfor _ in range(2):\n    usable_engines('onnxruntime')\n"
    )
    (project.folder / "look.py").write_text(code)
    output = project.python("look", PYTHONPATH=f"{project.folder}:{project.environment()['PYTHONPATH']}")
    assert output.count("'openvino' of the group standgale.engines (failing-plugins 1.5) is never used") == 1
