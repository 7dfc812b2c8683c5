"""Generates the JSON Schema and the types of each event version, and the AsyncAPI document of topics.yaml.

The documents are in the repository under ``schemas/generated/``: readers of events can take them from there, and a
review shows what a change of an event means for them. ``python -m schemas.documents write`` makes the documents,
``check`` compares them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import yaml
from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema

from schemas.asyncapi import asyncapi_document
from schemas.event_base import Event
from schemas.event_types import PYTHON_FILE, TYPESCRIPT_FILE, python, typescript
from schemas.events import EVENTS
from schemas.topics import TopicSpec, load_topics

GENERATED = Path(__file__).resolve().parent / "generated"
ASYNCAPI_FILE = "asyncapi.yaml"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Writes titles as people do: ``Frame id`` instead of ``Frame Id``."""

    def get_title_from_name(self, name: str) -> str:
        """Return the title of the field ``name``."""
        words = name.replace("_", " ")
        return words[:1].upper() + words[1:]


def schema_file(event: type[Event]) -> str:
    """Return the name of the file with the schema of ``event``, for example ``standgale.frame.captured.v1.json``."""
    return f"{event.event_type()}.json"


def json_schema(event: type[Event]) -> dict[str, JsonValue]:
    """Return the JSON Schema (2020-12) of the data of ``event``, as its readers need it."""
    # The validation schema: a field with a default may be absent in an event that an older writer wrote.
    schema = event.model_json_schema(schema_generator=_Generator, mode="validation")
    head = {"$schema": _DIALECT, "$id": f"urn:standgale:schema:{event.event_name}:v{event.event_version}"}
    return cast("dict[str, JsonValue]", {**head, **schema})


def _component_schemas() -> dict[str, JsonSchemaValue]:
    """Return the schemas of all events and their parts, with references inside one AsyncAPI document."""
    _, definitions = models_json_schema(
        [(event, "validation") for event in EVENTS],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    return cast("dict[str, JsonSchemaValue]", definitions["$defs"])


def documents(topics: Mapping[str, TopicSpec]) -> dict[str, str]:
    """Return the texts of all documents by file name."""
    data = {event: json_schema(event) for event in EVENTS}
    texts = {
        schema_file(event): json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for event, schema in data.items()
    }
    by_type = {event.event_type(): schema for event, schema in data.items()}
    texts[TYPESCRIPT_FILE] = typescript(by_type)
    texts[PYTHON_FILE] = python(by_type)
    texts[ASYNCAPI_FILE] = yaml.safe_dump(
        asyncapi_document(topics, _component_schemas()), sort_keys=False, allow_unicode=True, width=120
    )
    return texts


def write(folder: Path = GENERATED) -> list[str]:
    """Write all documents into ``folder``, remove other documents there, and return what was changed."""
    folder.mkdir(parents=True, exist_ok=True)
    differences = check(folder)
    wanted = documents(load_topics())
    for path in _present(folder):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    return differences


def check(folder: Path = GENERATED) -> list[str]:
    """Return what in ``folder`` differs from the documents made now; empty when nothing does."""
    wanted = documents(load_topics())
    differences = [f"{path.name}: no event or document of this name" for path in _present(folder)]
    differences = [line for line in differences if line.partition(":")[0] not in wanted]
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file():
            differences.append(f"{name}: missing")
        elif path.read_text(encoding="utf-8") != text:
            differences.append(f"{name}: differs from the events and topics.yaml")
    return differences


def _present(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in {".json", ".yaml", ".ts", ".py"})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 when ``check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents", description=__doc__)
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("--folder", type=Path, default=GENERATED)
    chosen = parser.parse_args(arguments)
    differences = write(chosen.folder) if chosen.what == "write" else check(chosen.folder)
    for line in differences:
        print(line)
    if chosen.what == "check" and differences:
        print("generate them again with: python -m schemas.documents write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
