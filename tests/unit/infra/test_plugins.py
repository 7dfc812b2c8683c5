"""Entry points that are wrong, and plug-ins that the names of what ships hide, in folders as pip leaves them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from infra.errors import SettingsError
from infra.plugin_names import PluginGroup, warn_of_hidden_plugins
from infra.plugins import load_plugin, plugin_calls

SINKS: PluginGroup = "standgale.sinks"


def install(folder: Path, entry: str, module: str = "", *, metadata: bool = True) -> None:
    """Write a distribution with one sink, ``entry``, and its module ``odd_plugin``."""
    info = folder / "odd_plugin-2.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(f"[{SINKS}]\n{entry}\n")
    if metadata:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plugin\nVersion: 2.0\n")
    (folder / "odd_plugin.py").write_text(module)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "odd_plugin", raising=False)
    return tmp_path


@pytest.mark.parametrize("value", ["", "not a valid:::ref", "a-b:Sink"])
def test_load_plugin_names_the_entry_point_that_is_not_module_and_object(folder: Path, value: str) -> None:
    install(folder, f"odd = {value}")
    with pytest.raises(SettingsError) as caught:
        load_plugin(SINKS, "odd")
    assert f"(odd-plugin 2.0) cannot be used: its entry point {value!r} is not `module:object`" in str(caught.value)


def test_load_plugin_names_the_folder_of_a_distribution_without_metadata(folder: Path) -> None:
    install(folder, "odd = odd_plugin:absent", metadata=False)
    with pytest.raises(SettingsError) as caught:
        load_plugin(SINKS, "odd")
    assert f"(a distribution without complete METADATA in {folder})" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("class Odd(BaseException): ...\nraise Odd('odd')", "Odd: odd"),
        ("class Odd(Exception):\n    __str__ = None\nraise Odd", "Odd: its text cannot be made (TypeError)"),
    ],
)
def test_load_plugin_names_the_distribution_of_a_plug_in_that_ends_its_process(
    folder: Path, module: str, expected: str
) -> None:
    install(folder, "odd = odd_plugin:Sink", module)
    with pytest.raises(SettingsError) as caught:
        load_plugin(SINKS, "odd")
    assert f"(odd-plugin 2.0) cannot be used: {expected}; " in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), KeyError("passed")])
def test_plugin_calls_leaves_interrupts_and_passed_errors_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, plugin_calls(RuntimeError, KeyError):
        raise error
    assert caught.value is error


def test_warn_of_hidden_plugins_logs_each_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(folder, "hidden = odd_plugin:Sink\nseen = odd_plugin:Sink")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            warn_of_hidden_plugins(SINKS, ("hidden", "another"))
    (message,) = caplog.messages
    assert message.startswith("the plug-in 'hidden' of the group standgale.sinks (odd-plugin 2.0) is never used: ")
