"""The types of events for TypeScript and Python: what each form of a schema becomes, and real events fit them."""

from __future__ import annotations

import runpy
import typing
from typing import Any

import pytest

from schemas.documents import GENERATED, json_schema
from schemas.event_types import PYTHON_FILE, Schema, python, typescript
from schemas.events import EVENTS, DetectionsMade
from standgale.testing.factories import detections_made

SCHEMA: Schema = {
    "title": "Thing",
    "$defs": {
        "Kind": {"enum": ["a", "b"]},
        "Point": {"title": "Point", "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "type": "object",
    "required": ["id", "corners"],
    "properties": {
        "id": {"type": "string", "description": "Its name,\nfor */ people"},
        "kind": {"anyOf": [{"$ref": "#/$defs/Kind"}, {"type": "null"}]},
        "corners": {"type": "array", "prefixItems": [{"$ref": "#/$defs/Point"}, {"$ref": "#/$defs/Point"}]},
        "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "more": {},
    },
}


def test_typescript_of_each_form() -> None:
    text = typescript({"thing.v1": SCHEMA})
    assert "  /** Its name, for * / people */\n  id: string;\n" in text
    assert "  kind?: Kind | null;\n  corners: [Point, Point];\n  tags?: (string | number)[];\n" in text
    assert "  counts?: Record<string, number>;\n  more?: unknown;\n" in text
    assert 'export type Kind = "a" | "b";' in text
    assert '  "thing.v1": Thing;\n' in text


def test_python_of_each_form() -> None:
    text = python({"thing.v1": SCHEMA})
    assert "class Point(TypedDict):\n    x: float\n" in text
    assert (
        "    kind: NotRequired[Kind | None]\n    corners: list[Point]\n    tags: NotRequired[list[str | int]]\n" in text
    )
    assert "    counts: NotRequired[dict[str, int]]\n    more: NotRequired[Any]\n" in text


def test_one_name_with_two_meanings_is_refused() -> None:
    other = {**SCHEMA, "title": "Other", "$defs": {"Kind": {"enum": ["c"]}}}
    with pytest.raises(ValueError, match="two different parts of events have the name Kind"):
        typescript({"thing.v1": SCHEMA, "other.v1": other})


def test_real_event_has_the_fields_of_its_type() -> None:
    types: dict[str, Any] = runpy.run_path(str(GENERATED / PYTHON_FILE))
    assert {event.__name__ for event in EVENTS} <= types.keys()
    data = detections_made(1).model_dump(mode="json")
    fields = typing.get_type_hints(types[DetectionsMade.__name__], types, include_extras=True)
    required = {name for name, kind in fields.items() if typing.get_origin(kind) is not typing.NotRequired}
    assert required == set(json_schema(DetectionsMade)["required"])  # type: ignore[arg-type]
    assert required <= data.keys() <= fields.keys()
