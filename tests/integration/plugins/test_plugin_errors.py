"""Plug-ins that cannot be used are refused with the name of their distribution, which pip has installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.card.card import read_card
from detectors.engines.registry import usable_engines
from detectors.errors import ModelLoadError
from detectors.heads.choice import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.port import HeadRequest
from detectors.settings import DetectorSettings
from infra.errors import SettingsError
from schemas.topics import load_topics
from standgale.plugins import make_sink
from standgale.services.sinks import sink_names
from standgale.testing.graphs import GraphSpec, write_model
from tests.harnesses.plugin_projects import PluginProject

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.5"
[tool.hatch.build.targets.wheel]
only-include = ["{module}.py", "{module}_broken.py"]
[project.entry-points."standgale.sinks"]
twice = "{module}:Twice"
no_import = "{module}_broken:Sink"
absent = "{module}:Absent"
number = "{module}:NUMBER"
raises = "{module}:raises"
no_sink = "{module}:NoSink"
other_name = "{module}:Twice"
[project.entry-points."standgale.heads"]
no_head = "{module}:NoHead"
broken_head = "{module}_broken:Head"
[project.entry-points."standgale.engines"]
no_entry = "{module}:NUMBER"
broken_engine = "{module}_broken:ENTRY"
"""
MODULE = """
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS

NUMBER = 7

def raises():
    return [][0]

class NoSink:
    name = "no_sink"

class NoHead:
    def __init__(self, request):
        pass

class Twice:
    name = "twice"
    event = DetectionsMade
    topics = (DETECTIONS,)
    async def open(self): ...
    async def write(self, events): ...
    async def close(self): ...
"""


def install(folder: Path, name: str, module: str) -> PluginProject:
    files = {
        "pyproject.toml": PYPROJECT.format(name=name, module=module),
        f"{module}.py": MODULE,
        f"{module}_broken.py": "import a_library_that_is_not_there\n",
    }
    project = PluginProject(folder, files)
    project.install()
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PluginProject:
    return install(tmp_path_factory.mktemp("plug-in"), "my-plugin", "my_plugin")


@pytest.fixture
def installed(project: PluginProject, monkeypatch: pytest.MonkeyPatch) -> PluginProject:
    """The project, installed as far as this process can see."""
    monkeypatch.syspath_prepend(str(project.installed))
    return project


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_import", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("absent", "AttributeError"),
        ("number", "7 is not a class or function that makes a sink"),
        ("raises", "IndexError: list index out of range"),
        ("no_sink", "has no event, topics, open, write, close"),
        ("other_name", "its sink has the name 'twice'; both names must be the same"),
    ],
)
def test_make_sink_names_the_distribution_of_a_sink_that_cannot_be_made(
    installed: PluginProject, name: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        make_sink(name, load_topics())
    text = str(caught.value)
    assert text.startswith(f"the plug-in {name!r} of the group standgale.sinks (my-plugin 1.5) cannot be used: ")
    assert expected in text
    assert text.endswith("uninstall it")


def test_sink_names_lists_plug_ins_without_loading_them(installed: PluginProject) -> None:
    assert sink_names()[:2] == ["postgres", "sse"]
    assert {"twice", "no_import"} <= set(sink_names())


def test_two_distributions_with_one_sink_are_both_named(
    installed: PluginProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_sink("twice", load_topics()).name == "twice"
    monkeypatch.syspath_prepend(str(install(tmp_path, "second-plugin", "second_plugin").installed))
    with pytest.raises(SettingsError) as caught:
        make_sink("twice", load_topics())
    for distribution in ("my-plugin 1.5", "second-plugin 1.5"):
        assert distribution in str(caught.value)
    assert "both have an entry point 'twice'" in str(caught.value)


def test_sink_command_ends_with_an_error_when_its_plug_in_is_broken(project: PluginProject, tmp_path: Path) -> None:
    output = project.python("standgale", "sink", "no_import", status=1, STANDGALE_DATA_DIR=str(tmp_path / "data"))
    assert "(my-plugin 1.5) cannot be used: ModuleNotFoundError" in output


@pytest.mark.parametrize(
    ("layout", "expected"), [("broken_head", "ModuleNotFoundError"), ("no_head", "has no mismatch or no decode")]
)
def test_choose_head_names_the_distribution_of_a_head_that_cannot_be_made(
    installed: PluginProject, tmp_path: Path, layout: str, expected: str
) -> None:
    assert read_card(write_model(tmp_path, GraphSpec(), layout=layout)).layout == layout
    with pytest.raises(ModelLoadError) as caught:
        choose_head(layout, HeadRequest(64, 64, ClassNumbers(3)), [(1, 20, 6)], {})
    assert f"the plug-in '{layout}' of the group standgale.heads (my-plugin 1.5) cannot be used: " in str(caught.value)
    assert expected in str(caught.value)


def test_card_with_an_unknown_layout_lists_the_layouts_and_the_group(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"'yolov8', .* or 'mmdet', .* standgale\.heads"):
        read_card(write_model(tmp_path, GraphSpec(), layout="no_head"))


@pytest.mark.parametrize(
    ("engine", "expected"), [("broken_engine", "ModuleNotFoundError"), ("no_entry", "7 is not an EngineEntry")]
)
def test_usable_engines_names_the_distribution_of_an_engine_that_cannot_be_loaded(
    installed: PluginProject, engine: str, expected: str
) -> None:
    assert DetectorSettings.model_validate({"engine": engine}).engine == engine
    with pytest.raises(ModelLoadError) as caught:
        usable_engines(engine)
    text = str(caught.value)
    assert f"the plug-in '{engine}' of the group standgale.engines (my-plugin 1.5) cannot be used: " in text
    assert expected in text


def test_setting_with_an_unknown_engine_lists_the_engines_and_the_group() -> None:
    with pytest.raises(ValueError, match=r"'auto', .* or 'torch', .* standgale\.engines"):
        DetectorSettings.model_validate({"engine": "no_entry"})


def test_import_of_testing_without_pytest_names_the_missing_package(project: PluginProject, tmp_path: Path) -> None:
    (tmp_path / "try_it.py").write_text("import sys\nsys.modules['pytest'] = None\nimport standgale.testing.sink\n")
    path = f"{tmp_path}:{project.environment()['PYTHONPATH']}"
    output = project.python("try_it", status=1, PYTHONPATH=path)
    assert "standgale.testing needs pytest, which is not installed" in output
    assert "install the extras server, testing and cpu of standgale" in output
    assert "pip install -e '.[server,testing,cpu]'" in output
