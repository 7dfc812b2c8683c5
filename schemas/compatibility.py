"""Checks that events stay compatible with their published schemas, for readers and writers of both.

``schemas/published/`` has, from Standgale 1.0 on, the schema of each event version that other programs rely on. The
schemas of today's events must be compatible with it in both directions: old records stay readable, and old readers
can read new records. The only change that does both is a new optional field; any other change needs a new event
version with its own file. ``--publish`` copies compatible changes and new versions into the folder and refuses
anything else. The files are not edited manually: to find such edits, ``--against REF`` compares the folder with the
one at a git ref of 1.0 or later (a shallow clone needs only that commit).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue

from schemas.documents import json_schema, schema_file
from schemas.errors import StandgaleError
from schemas.events import EVENTS

Schema: TypeAlias = dict[str, JsonValue]

PUBLISHED = Path(__file__).resolve().parent / "published"
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EQUAL = ("type", "const", "pattern", "format", "contentEncoding", "multipleOf", "uniqueItems")
_NARROWER = "records written before may break it"
_WIDER = "readers of the published version may refuse new records"


class CompatibilityError(StandgaleError):
    """The published schemas cannot be read."""

    code = "INVALID_PUBLISHED_SCHEMA"


def incompatible_changes(old_schema: Schema, new_schema: Schema) -> list[str]:
    """Return each change from ``old_schema`` to ``new_schema`` that breaks a reader or a writer of the old one.

    Both are complete JSON Schemas (2020-12, as pydantic makes them). Each line names the place, for example
    ``image.width: minimum was 0, is 1: …``. New optional fields, titles and descriptions break nothing.
    """
    return list(_Comparison(old_schema, new_schema).nodes("", old_schema, new_schema))


class _Comparison:
    """Compares two schemas node by node, and does not enter a pair of definitions inside itself (recursion)."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._entered: set[tuple[str, str]] = set()

    def nodes(self, place: str, old: JsonValue, new: JsonValue) -> Iterator[str]:
        """Yield the breaking changes of one node."""
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                yield f"{place or 'event'}: was {json.dumps(old)[:80]}, is {json.dumps(new)[:80]}"
            return
        names = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(names) and names in self._entered:
            return
        self._entered.add(names)
        before, after = _resolved(self._old, old), _resolved(self._new, new)
        yield from _constraints(place or "event", before, after)
        yield from self._properties(place, before, after)
        yield from self._alternatives(place, before, after)
        for keyword in ("items", "additionalProperties"):
            if keyword in before or keyword in after:
                yield from self.nodes(f"{place}[]", before.get(keyword, True), after.get(keyword, True))
        yield from self._tuples(place, before, after)
        self._entered.discard(names)

    def _properties(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = _mapping(old, "properties"), _mapping(new, "properties")
        was_required, is_required = _names(old, "required"), _names(new, "required")
        for name in before:
            path = f"{place}.{name}".lstrip(".")
            if name not in after:
                yield f"{path}: removed: readers of the published version need it"
                continue
            if name in is_required and name not in was_required:
                yield f"{path}: was optional, is required: {_NARROWER}"
            if name in was_required and name not in is_required:
                yield f"{path}: was required, is optional: {_WIDER}"
            yield from self.nodes(path, before[name], after[name])
        for name in after:
            if name not in before and name in is_required:
                yield f"{place}.{name}".lstrip(".") + f": new and required: {_NARROWER}; give it a default"

    def _alternatives(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        """Yield the breaking changes of ``anyOf``, whose branches are paired by the type of their values."""
        before = {self._kind(self._old, one): one for one in _sequence(old, "anyOf")}
        after = {self._kind(self._new, one): one for one in _sequence(new, "anyOf")}
        for kind in before.keys() | after.keys():
            if kind not in after:
                yield f"{place}: no longer takes {kind}: {_NARROWER}"
            elif kind not in before:
                yield f"{place}: also takes {kind}: {_WIDER}"
            else:
                yield from self.nodes(place, before[kind], after[kind])

    def _tuples(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = _sequence(old, "prefixItems"), _sequence(new, "prefixItems")
        if len(before) != len(after):
            yield f"{place}: had {len(before)} places, has {len(after)}: {_NARROWER}"
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from self.nodes(f"{place}[{index}]", one, other)

    @staticmethod
    def _kind(root: Schema, branch: JsonValue) -> str:
        resolved = _resolved(root, branch) if isinstance(branch, dict) else {}
        return str(resolved.get("type", resolved.get("title", json.dumps(branch, sort_keys=True))))


def _constraints(place: str, old: Schema, new: Schema) -> Iterator[str]:
    for keyword in _EQUAL:
        if old.get(keyword) != new.get(keyword):
            yield f"{place}: {keyword} {_was(old, new, keyword)}: readers and writers of the published version differ"
    if not _same_default(old.get("default"), new.get("default")):
        yield f"{place}: default {_was(old, new, 'default')}: records without the field would mean something else"
    for keyword in (*_LOWER, *_UPPER):
        edge = float("-inf") if keyword in _LOWER else float("inf")
        before, after = _number(old, keyword, edge), _number(new, keyword, edge)
        if before != after:
            narrower = (after > before) == (keyword in _LOWER)
            yield f"{place}: {keyword} {_was(old, new, keyword)}: {_NARROWER if narrower else _WIDER}"
    if "enum" in old or "enum" in new:
        before_values, after_values = _sequence(old, "enum"), _sequence(new, "enum")
        if any(value not in after_values for value in before_values) or not before_values:
            yield f"{place}: enum {_was(old, new, 'enum')}: {_NARROWER}"
        if any(value not in before_values for value in after_values) and before_values:
            yield f"{place}: enum {_was(old, new, 'enum')}: {_WIDER}"


def _same_default(old: JsonValue, new: JsonValue) -> bool:
    """Return whether a missing field still means the same; a part of it may have new optional fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _same_default(value, new[name]) for name, value in old.items())
    return old == new


def _was(old: Schema, new: Schema, keyword: str) -> str:
    before, after = (json.dumps(side[keyword]) if keyword in side else "absent" for side in (old, new))
    return f"was {before}, is {after}"


def _resolved(root: Schema, node: Schema) -> Schema:
    """Return ``node`` merged with the definition that its ``$ref`` names."""
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return node
    target = _mapping(root, "$defs").get(reference.removeprefix("#/$defs/"))
    if not isinstance(target, dict):
        raise CompatibilityError(f"{reference} points nowhere; generate the schemas again")
    return {**_resolved(root, target), **{key: value for key, value in node.items() if key != "$ref"}}


def _mapping(schema: Schema, keyword: str) -> Schema:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _sequence(schema: Schema, keyword: str) -> Sequence[JsonValue]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _names(schema: Schema, keyword: str) -> set[JsonValue]:
    return {value for value in _sequence(schema, keyword) if isinstance(value, str)}


def _number(schema: Schema, keyword: str, absent: float) -> float:
    value = schema.get(keyword)
    return float(value) if isinstance(value, int | float) else absent


def published(folder: Path = PUBLISHED) -> dict[str, Schema]:
    """Return the published schemas by file name. Raises CompatibilityError when a file is no JSON object."""
    return {path.name: _parsed(path.name, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def published_at(ref: str) -> dict[str, Schema]:
    """Return the published schemas at the git ref ``ref``. Raises CompatibilityError when git does not know it."""
    names = _git("ls-tree", "--name-only", "--full-name", ref, "./").splitlines()
    return {Path(name).name: _parsed(name, _git("show", f"{ref}:{name}")) for name in names if name.endswith(".json")}


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 (a fixed program, and no shell)
        ["git", *arguments],  # noqa: S607 (the user's own git)
        cwd=PUBLISHED,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompatibilityError(f"git {' '.join(arguments)}: {done.stderr.strip()}; fetch that ref first")
    return done.stdout


def _parsed(name: str, text: str) -> Schema:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CompatibilityError(f"{name}: no JSON ({error})") from error
    if not isinstance(value, dict):
        raise CompatibilityError(f"{name}: a JSON object was expected")
    return value


def compare(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """Return the incompatible changes of all schemas in ``old``; a schema that ``new`` lacks is one."""
    changes = []
    for name, schema in old.items():
        if name in new:
            changes += [f"{name}: {change}" for change in incompatible_changes(schema, new[name])]
        else:
            changes.append(f"{name}: removed: others still read and write this version")
    return changes


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 when something is incompatible or not published yet."""
    parser = argparse.ArgumentParser(prog="python -m schemas.compatibility", description=__doc__)
    parser.add_argument("--against", metavar="REF", help="also compare schemas/published with that of this git ref")
    parser.add_argument(
        "--publish", action="store_true", help="copy compatible changes and new versions into schemas/published"
    )
    chosen = parser.parse_args(arguments)
    generated = {schema_file(event): json_schema(event) for event in EVENTS}
    try:
        frozen = published()
        changes = compare(frozen, generated)
        if chosen.against is not None:
            changes += compare(published_at(chosen.against), frozen)
    except CompatibilityError as error:
        changes = [str(error)]
    if not changes and chosen.publish:
        PUBLISHED.mkdir(exist_ok=True)
        for name, schema in generated.items():
            text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
            (PUBLISHED / name).write_text(text, encoding="utf-8")
    elif not changes:
        changes = [f"{name}: not published yet; run --publish" for name in generated if name not in frozen]
    for change in changes:
        print(change, file=sys.stderr)
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())
