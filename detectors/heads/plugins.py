"""Makes the heads that other distributions offer as entry points of the group ``standgale.heads``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.port import Head, HeadRequest, Shape
from detectors.heads.rectangles import Rectangles, RotatedHead
from infra.errors import SettingsError
from infra.plugin_names import PluginGroup
from infra.plugins import load_plugin, plugin_calls, plugin_error, plugin_label

HEAD_PLUGINS: PluginGroup = "standgale.heads"

ResultT = TypeVar("ResultT", RawBoxes, Rectangles)


def make_plugin_head(layout: str, request: HeadRequest) -> Head:
    """Load the plug-in for ``layout`` and call it with ``request`` to make its head.

    Raises ModelLoadError that names the distribution when it cannot be loaded, fails, or gives something else.
    """

    def cannot_be_used(reason: str) -> ModelLoadError:
        return ModelLoadError(str(plugin_error(HEAD_PLUGINS, layout, reason)))

    factory = _load(layout)
    if not callable(factory):
        raise cannot_be_used(f"{factory!r} is not a class or function that makes a head")
    with plugin_calls(cannot_be_used, ModelLoadError):
        head: Head = factory(request)
        complete = hasattr(head, "mismatch") and hasattr(head, "decode")
        shown = repr(head)
    if not complete:
        raise cannot_be_used(f"its head {shown} has no mismatch or no decode")
    label = plugin_label(HEAD_PLUGINS, layout)
    return _PluginRotatedHead(head, head, label) if isinstance(head, RotatedHead) else _PluginHead(head, label)


def _load(layout: str) -> object:
    try:
        return load_plugin(HEAD_PLUGINS, layout)
    except SettingsError as error:
        raise ModelLoadError(str(error)) from error


class _PluginHead:
    """A plug-in's head; whatever it raises is an error that names it."""

    def __init__(self, head: Head, label: str) -> None:
        self._head = head
        self._label = label

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        with plugin_calls(lambda reason: ModelLoadError(f"{self._label} failed: {reason}"), ModelLoadError):
            against = self._head.mismatch(shapes)
        return against

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        return self._call(self._head.decode, RawBoxes, outputs, confidence)

    def _call(
        self, read: Callable[[Outputs, float], ResultT], kind: type[ResultT], outputs: Outputs, confidence: float
    ) -> ResultT:
        with plugin_calls(lambda reason: InferenceError(f"{self._label} failed: {reason}"), InferenceError):
            found = read(outputs, confidence)
        if not isinstance(found, kind):
            raise InferenceError(f"{self._label} failed: it gave {type(found).__name__}, not {kind.__name__}")
        return found


class _PluginRotatedHead(_PluginHead):
    """A plug-in's head that can also give rectangles."""

    def __init__(self, head: Head, rotated: RotatedHead, label: str) -> None:
        super().__init__(head, label)
        self._rotated = rotated

    def rectangles(self, outputs: Outputs, confidence: float) -> Rectangles:
        return self._call(self._rotated.rectangles, Rectangles, outputs, confidence)
