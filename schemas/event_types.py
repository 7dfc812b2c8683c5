"""Writes the JSON Schemas of the events as types for programs in TypeScript and Python.

The types describe the JSON as it is in the records: times and ids are text, fields that may be absent are optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast

from pydantic import JsonValue

Schema: TypeAlias = Mapping[str, JsonValue]

TYPESCRIPT_FILE = "standgale_events.ts"
PYTHON_FILE = "standgale_events.py"
_REFERENCE = "#/$defs/"
_TS_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_PY_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def typescript(schemas: Mapping[str, Schema]) -> str:
    """Return the TypeScript types of ``schemas``, given by CloudEvents type."""
    parts = ["// Types of the events of Standgale, generated from their JSON Schemas. Do not edit."]
    for name, schema in _named(schemas).items():
        if "properties" not in schema:
            parts.append(f"export type {name} = {_ts(schema)};")
            continue
        lines = [f"export interface {name} {{"]
        for field, part, is_required in _fields(schema):
            if isinstance(text := part.get("description"), str):
                lines.append(f"  /** {_one_line(text).replace('*/', '* /')} */")
            lines.append(f"  {field}{'' if is_required else '?'}: {_ts(part)};")
        parts.append("\n".join((*lines, "}")))
    by_type = [f"  {json.dumps(kind)}: {schema['title']};" for kind, schema in schemas.items()]
    parts.append(
        "\n".join(("/** The data of each event by its CloudEvents type. */", "export interface EventsByType {"))
        + "\n"
        + "\n".join((*by_type, "}"))
    )
    return "\n\n".join(parts) + "\n"


def python(schemas: Mapping[str, Schema]) -> str:
    """Return the Python types (TypedDict) of ``schemas``, given by CloudEvents type."""
    parts = [
        '"""Types of the events of Standgale, generated from their JSON Schemas. Do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import Any, Literal, NotRequired, TypeAlias, TypedDict"
    ]
    for name, schema in _named(schemas).items():
        if "properties" not in schema:
            parts.append(f"{name}: TypeAlias = {json.dumps(_py(schema))}")
            continue
        lines = [f"class {name}(TypedDict):"]
        for field, part, is_required in _fields(schema):
            if isinstance(text := part.get("description"), str):
                lines.append(f"    # {_one_line(text)}")
            lines.append(f"    {field}: {_py(part) if is_required else f'NotRequired[{_py(part)}]'}")
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts) + "\n"


def _named(schemas: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return all parts by name, then the events. Raises ValueError for one name with two meanings."""
    parts: dict[str, Schema] = {}
    for schema in schemas.values():
        definitions = cast("Mapping[str, Schema]", schema.get("$defs", {}))
        for name, part in (*definitions.items(), (str(schema["title"]), schema)):
            if parts.setdefault(name, part) != part:
                raise ValueError(f"two different parts of events have the name {name}")
    events = [str(schema["title"]) for schema in schemas.values()]
    return {name: parts[name] for name in (*sorted(parts.keys() - set(events)), *events)}


def _fields(schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Yield name and schema of each field, and whether it is always there."""
    required = cast("list[str]", schema.get("required", []))
    for name, part in cast("Mapping[str, Schema]", schema["properties"]).items():
        yield name, part, name in required


def _ts(schema: Schema) -> str:
    if (choices := _choices(schema)) is not None:
        return " | ".join(dict.fromkeys(map(_ts, choices)))
    if (values := _values(schema)) is not None:
        return " | ".join(json.dumps(value) for value in values)
    if isinstance(reference := schema.get("$ref"), str):
        return reference.removeprefix(_REFERENCE)
    kind = schema.get("type")
    if kind == "array":
        if (items := schema.get("prefixItems")) is not None:
            return f"[{', '.join(map(_ts, cast('list[Schema]', items)))}]"
        item = _ts(cast("Schema", schema.get("items", {})))
        return f"({item})[]" if "|" in item else f"{item}[]"
    if kind == "object":
        return f"Record<string, {_ts(_values_of_object(schema))}>"
    return _TS_PLAIN.get(str(kind), "unknown")


def _py(schema: Schema) -> str:
    if (choices := _choices(schema)) is not None:
        return " | ".join(dict.fromkeys(map(_py, choices)))
    if (values := _values(schema)) is not None:
        return f"Literal[{', '.join(json.dumps(value) for value in values)}]"
    if isinstance(reference := schema.get("$ref"), str):
        return reference.removeprefix(_REFERENCE)
    kind = schema.get("type")
    if kind == "array":
        # JSON arrays are lists in Python, also those of a fixed length.
        items = cast("list[Schema]", schema.get("prefixItems") or [schema.get("items", {})])
        return f"list[{' | '.join(dict.fromkeys(map(_py, items)))}]"
    if kind == "object":
        return f"dict[str, {_py(_values_of_object(schema))}]"
    return _PY_PLAIN.get(str(kind), "Any")


def _choices(schema: Schema) -> list[Schema] | None:
    found = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    return None if found is None else cast("list[Schema]", found)


def _values(schema: Schema) -> list[JsonValue] | None:
    if "const" in schema:
        return [schema["const"]]
    return cast("list[JsonValue] | None", schema.get("enum"))


def _values_of_object(schema: Schema) -> Schema:
    found = schema.get("additionalProperties")
    return cast("Schema", found) if isinstance(found, dict) else {}


def _one_line(text: str) -> str:
    return " ".join(text.split())
