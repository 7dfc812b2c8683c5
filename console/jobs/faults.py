"""Says in plain words which fields of a request for a job are wrong, and what they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from console.http.errors import InvalidConfigError
from infra.texts import shortened

_MOST = 20
_LONGEST_NAME = 60

_RANGES: Mapping[str, tuple[str, str]] = {
    "confidence_threshold": ("0.0", "1.0"),
    "iou_threshold": ("0.0", "1.0"),
    "threshold": ("0.0", "1.0"),
    "slice_width": ("256", "2048"),
    "slice_height": ("256", "2048"),
    "overlap_ratio": ("0.0", "0.5"),
    "limit": ("1", "100"),
}


def _units(about: Mapping[str, Any]) -> str:
    """Return what is counted: pydantic also calls a text with a check of its own too_long."""
    return "entries" if about.get("field_type") == "List" else "characters"


def _sentence(text: str) -> str:
    """Return ``text`` with a large first letter; all others stay, as those of NAME and ONNX."""
    return text[:1].upper() + text[1:]


_PATHS = ("model_path",)
_TIME = "Must be a time with its zone, as 2026-05-01T12:00:00Z"
_TIMES = ("timezone_aware", "datetime_from_date_parsing", "datetime_parsing")
_TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "Must be given",
    "float_type": lambda _: "Must be a number, not text",
    "int_type": lambda _: "Must be a whole number",
    "int_from_float": lambda _: "Must be a whole number",
    "int_parsing": lambda _: "Must be a whole number",
    **dict.fromkeys(_TIMES, lambda _: _TIME),
    "bool_type": lambda _: "Must be true or false",
    "float_parsing": lambda _: "Must be a number",
    "finite_number": lambda _: "Must be a number",
    "greater_than_equal": lambda about: f"Must be at least {about['ge']:,}",
    "less_than_equal": lambda about: f"Must be at most {about['le']:,}",
    "string_type": lambda _: "Must be text",
    "list_type": lambda _: "Must be a list",
    "model_type": lambda _: "Must be an object",
    "model_attributes_type": lambda _: "Must be an object",
    "string_too_short": lambda _: "Must not be empty",
    "string_too_long": lambda about: f"Must have at most {about['max_length']:,} characters",
    "too_short": lambda _: "Must not be empty",
    "too_long": lambda about: f"Must have at most {about['max_length']:,} {_units(about)}",
    "literal_error": lambda about: f"Must be one of {about['expected']}",
    "string_unicode": lambda _: "Must be text without halves of characters",
    "string_pattern_mismatch": lambda _: "Must be printable ASCII without spaces",
    "value_error": lambda about: _sentence(str(about["error"])),
    "json_invalid": lambda about: f"Must be JSON: {about.get('error', 'it cannot be read')}",
}


def config_error(faults: Sequence[Mapping[str, Any]]) -> InvalidConfigError:
    """Return the error for ``faults`` as pydantic lists them for the body of a request."""
    return InvalidConfigError([_fault(fault) for fault in faults[:_MOST]])


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    # The first part says that it is in the body, or in the query, where a parameter may be given several times.
    within = fault["loc"][1:2] if fault["loc"][0] == "query" else fault["loc"][1:]
    parts = [str(part) for part in within]
    kind, about = fault["type"], fault.get("ctx") or {}
    if kind == "json_invalid":
        parts = []
    name = parts[-1] if parts else ""
    field = ".".join(shortened(part, _LONGEST_NAME) for part in parts) or "body"
    if kind == "float_type" and not isinstance(fault.get("input", ""), str):
        return {"field": field, "error": "Must be a number"}
    if kind in _TIMES and fault["loc"][0] == "query" and " " in str(fault.get("input", "")).strip():
        # A plus in an address is a space.
        return {"field": field, "error": f"{_TIME}; a + in an address is written %2B"}
    return {"field": field, "error": _text(kind, name, about, str(fault["msg"]))}


def unreadable_body(cause: BaseException | None) -> InvalidConfigError:
    """Return the error for a body that is no JSON at all, because of ``cause``."""
    deep = isinstance(cause, RecursionError)
    why = "it has too many lists or objects in each other" if deep else "it is not text in UTF-8"
    return config_error([{"loc": ("body",), "type": "json_invalid", "msg": "", "ctx": {"error": why}}])


def _text(kind: str, name: str, about: Mapping[str, Any], otherwise: str) -> str:
    if kind == "extra_forbidden":
        if name in _PATHS:
            return "Paths are not accepted; name a version of the model store in config.model, as name and version"
        return "Is not known; /docs describes the fields"
    if kind in ("greater_than_equal", "less_than_equal", "finite_number") and name in _RANGES:
        low, high = _RANGES[name]
        return f"Must be between {low} and {high}"
    text = _TEXTS.get(kind)
    return otherwise if text is None else text(about)
