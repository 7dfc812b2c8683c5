"""Checks which changes of a published event version are compatible: only new optional fields."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from schemas import compatibility
from schemas.compatibility import CompatibilityError, Schema, compare, incompatible_changes, main, published
from schemas.documents import json_schema, schema_file
from schemas.events import EVENTS, DetectionsMade, FrameCaptured


class Part(BaseModel):
    width: Annotated[int, Field(gt=0)]


class Base(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=10, pattern="^a")]
    kind: Literal["a", "b"]
    part: Part
    parts: list[Part] = Field(default_factory=list)
    note: str | None = None
    pair: tuple[str, int] = ("a", 1)


def schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


class WithOptional(Base):
    more: int | None = None
    title: str = Field(default="x", description="new")


class WithRequired(Base):
    more: int


class Removed(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=10, pattern="^a")]
    kind: Literal["a", "b"]
    part: Part
    parts: list[Part] = Field(default_factory=list)
    pair: tuple[str, int] = ("a", 1)


class ShorterName(Base):
    name: Annotated[str, Field(min_length=1, max_length=5, pattern="^a")]


class LongerName(Base):
    name: Annotated[str, Field(min_length=1, max_length=50, pattern="^a")]


class HigherMinimum(Base):
    name: Annotated[str, Field(min_length=2, max_length=10, pattern="^a")]


class OtherPattern(Base):
    name: Annotated[str, Field(min_length=1, max_length=10, pattern="^b")]


class NumberName(Base):
    name: int  # type: ignore[assignment]  # the change under test


class FewerKinds(Base):
    kind: Literal["a"]


class MoreKinds(Base):
    kind: Literal["a", "b", "c"]  # type: ignore[assignment]  # the change under test


class NoteRequired(Base):
    note: str | None


class NoteNeverNull(Base):
    note: str = ""


class NoteOrNumber(Base):
    note: str | int | None = None  # type: ignore[assignment]  # the change under test


class OtherDefault(Base):
    pair: tuple[str, int] = ("b", 1)


class LongerPair(Base):
    pair: tuple[str, int, int] = ("a", 1, 1)  # type: ignore[assignment]  # the change under test


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event_name)
def test_incompatible_changes_of_equal_schemas_is_empty(event: type[BaseModel]) -> None:
    assert incompatible_changes(schema(event), schema(event)) == []


def test_a_new_optional_field_is_compatible() -> None:
    assert incompatible_changes(schema(Base), schema(WithOptional)) == []


@pytest.mark.parametrize(
    ("model", "place", "words"),
    [
        (WithRequired, "more", "new and required"),
        (Removed, "note", "removed"),
        (ShorterName, "name", "maxLength was 10, is 5: records"),
        (LongerName, "name", "maxLength was 10, is 50: readers"),
        (HigherMinimum, "name", "minLength was 1, is 2: records"),
        (OtherPattern, "name", "pattern"),
        (NumberName, "name", "type"),
        (FewerKinds, "kind", "b"),
        (MoreKinds, "kind", "enum"),
        (NoteRequired, "note", "is required"),
        (NoteNeverNull, "note", "type"),
        (NoteOrNumber, "note", "also takes integer"),
        (OtherDefault, "pair", "default"),
        (LongerPair, "pair", "had 2 places, has 3"),
    ],
)
def test_other_changes_are_incompatible(model: type[BaseModel], place: str, words: str) -> None:
    changes = incompatible_changes(schema(Base), schema(model))
    assert any(change.startswith(place) and words in change for change in changes), changes


def test_changes_deep_inside_are_named_by_their_place() -> None:
    old = json_schema(DetectionsMade)
    new = deepcopy(old)
    definitions = new["$defs"]
    assert isinstance(definitions, dict)
    definitions["Box"]["properties"]["x1"]["maximum"] = 0.5  # type: ignore[index,call-overload]  # known shape
    of_detection, of_dropped = incompatible_changes(old, new)
    assert of_detection.startswith("detections[].box.x1: maximum was 1.0, is 0.5")
    assert of_dropped.startswith("rules.dropped[].box.x1: maximum was 1.0, is 0.5")


def test_a_new_optional_field_of_a_part_with_a_default_is_compatible() -> None:
    old = json_schema(FrameCaptured)
    new = deepcopy(old)
    definitions, properties = new["$defs"], new["properties"]
    assert isinstance(definitions, dict)
    assert isinstance(properties, dict)
    definitions["DetectOptions"]["properties"]["later"] = {"type": "integer"}  # type: ignore[index,call-overload]
    options = properties["options"]
    assert isinstance(options, dict)
    default = options["default"]
    assert isinstance(default, dict)
    default["later"] = None
    assert incompatible_changes(old, new) == []


def test_recursive_schemas_are_compared_in_finite_time() -> None:
    class Node(BaseModel):
        children: list[Node] = Field(default_factory=list)
        value: int

    assert incompatible_changes(schema(Node), schema(Node)) == []


def test_a_removed_version_is_reported_and_a_new_one_is_not() -> None:
    one = schema(Base)
    assert compare({"a.v1.json": one}, {"a.v1.json": one, "a.v2.json": one}) == []
    assert "removed" in compare({"a.v1.json": one}, {})[0]


def test_events_are_compatible_with_the_published_schemas() -> None:
    assert set(published()) >= {schema_file(event) for event in EVENTS}
    assert main([]) == 0


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "schemas" / "published"
    folder.mkdir(parents=True)
    monkeypatch.setattr(compatibility, "PUBLISHED", folder)
    monkeypatch.setattr(compatibility.published, "__defaults__", (folder,))
    git(tmp_path, "init", "-q")
    return folder


def test_against_finds_a_manual_edit_of_a_published_schema(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 1
    assert "not published yet" in capsys.readouterr().err
    assert main(["--publish"]) == 0
    assert main([]) == 0
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "published")
    assert main(["--against", "HEAD"]) == 0
    # A hand removes a field from the published file: today's events only add one then, but HEAD remembers.
    path = repository / schema_file(FrameCaptured)
    document = json.loads(path.read_text())
    del document["properties"]["original_filename"]
    path.write_text(json.dumps(document))
    assert main([]) == 0
    assert main(["--against", "HEAD"]) == 1
    assert "original_filename: removed" in capsys.readouterr().err


def test_publish_refuses_an_incompatible_change(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--publish"]) == 0
    path = repository / schema_file(FrameCaptured)
    document = json.loads(path.read_text())
    document["properties"]["needed_before"] = {"type": "string"}
    path.write_text(json.dumps(document))
    assert main(["--publish"]) == 1
    assert "needed_before: removed" in capsys.readouterr().err
    assert "needed_before" in path.read_text()


def test_an_unknown_ref_and_a_broken_file_are_reported(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--against", "no-such-ref"]) == 1
    assert "fetch that ref" in capsys.readouterr().err
    (repository / "a.json").write_text("[")
    assert main([]) == 1
    assert "a.json: no JSON" in capsys.readouterr().err


def test_a_reference_to_nowhere_is_reported() -> None:
    with pytest.raises(CompatibilityError, match="points nowhere"):
        incompatible_changes({"$ref": "#/$defs/X"}, {"$ref": "#/$defs/X"})
