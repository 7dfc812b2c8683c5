"""Describes every setting of a settings model: variable, path, what it takes and its default; also as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from infra.plugin_names import NameOrPlugin
from infra.sections import NESTING, PREFIX, AlsoNamed, Takes

_TYPE_NAMES: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    SecretStr: "a secret text",
}
_BOUNDS = (("gt", "greater than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most"))

Place = tuple[str, ...]
"""Where a setting is: its section's name and its own; for a setting without a section, its name alone."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Describes one setting to people."""

    path: str
    """Its name in the file, with dots."""
    variable: str
    """Its name in the environment."""
    takes: str
    """Type, choices and bounds, as text."""
    default: str
    """Empty: none."""
    about: str
    secret: bool
    many: bool
    """It takes a list."""
    also: AlsoNamed | None = None
    """Another variable that gives it."""
    optional: bool = False
    """It may be without a value: null in the file, the word none in the environment."""


def describe_settings(model: type[BaseModel]) -> dict[Place, Setting]:
    """Return all settings of ``model`` by their place, in the order of declaration."""
    return dict(_describe(model, ()))


def markdown_table(model: type[BaseModel]) -> str:
    """Return all settings of ``model`` as a Markdown table for the documentation."""
    lines = ["| variable | in the file | takes | default | about |", "| --- | --- | --- | --- | --- |"]
    for setting in describe_settings(model).values():
        default = f"`{setting.default}`" if setting.default else "none"
        lines.append(f"| `{setting.variable}` | `{setting.path}` | {setting.takes} | {default} | {setting.about} |")
    return "\n".join(lines) + "\n"


def _describe(model: type[BaseModel], above: Place) -> Iterator[tuple[Place, Setting]]:
    for name, field in model.model_fields.items():
        place = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _describe(field.annotation, place)
            continue
        secret = _mentions(field.annotation, SecretStr)
        # A password may be any word, so no word takes it away.
        optional = not secret and _mentions(field.annotation, type(None))
        also = next((one for one in field.metadata if isinstance(one, AlsoNamed)), None)
        yield (
            place,
            Setting(
                path=".".join(place),
                variable=PREFIX + NESTING.join(place).upper(),
                takes=_takes(field) + (", or none" if optional else ""),
                default=_default_text(field.default, secret=secret),
                about=_about(field, also),
                secret=secret,
                many=_mentions(field.annotation, tuple),
                also=also,
                optional=optional,
            ),
        )


def _mentions(annotation: object, wanted: type) -> bool:
    return (
        annotation is wanted
        or get_origin(annotation) is wanted
        or any(_mentions(part, wanted) for part in get_args(annotation))
    )


def _about(field: FieldInfo, also: AlsoNamed | None) -> str:
    """Return what the setting is about, with the other variable that gives it."""
    about = field.description or ""
    if also is None:
        return about
    where = "" if also.only_with is None else f" where {also.only_with[0]} is {also.only_with[1]}"
    return f"{about}; also given by {also.variable}{where}"


def _takes(field: FieldInfo) -> str:
    """Return what the field takes, as text: type, choices and bounds."""
    for one in (*field.metadata, *_nested_metadata(field.annotation)):
        if isinstance(one, NameOrPlugin):
            return str(one)
        if isinstance(one, Takes):
            return one.text
    words = _annotation_words(field.annotation)
    bounds = [*_bound_words(field.metadata), *_bound_words(_nested_metadata(field.annotation))]
    return " ".join((words, *bounds)) if bounds else words


def _nested_metadata(annotation: object) -> list[object]:
    """Return the constraints inside an optional type: ``Annotated[int, Field(ge=1)] | None``."""
    found: list[object] = []
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            if get_origin(part) is Annotated:
                found.extend(get_args(part)[1:])
    return found


def _bound_words(metadata: list[Any]) -> list[str]:
    words: list[str] = []
    for constraint in metadata:
        if isinstance(constraint, FieldInfo):
            words.extend(_bound_words(constraint.metadata))
            continue
        for attribute, text in _BOUNDS:
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                words.append(f"{text} {bound}" if not words else f"and {text} {bound}")
    return words


def _annotation_words(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if origin is Annotated:
        return _annotation_words(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " or ".join(_annotation_words(part) for part in get_args(annotation) if part is not type(None))
    if origin is tuple:
        return f"a list (comma separated or JSON) of {_annotation_words(get_args(annotation)[0])}"
    if isinstance(annotation, type):
        return _TYPE_NAMES.get(annotation, annotation.__name__)
    return str(annotation)


def _default_text(default: object, *, secret: bool) -> str:
    if default is None or default == ():
        return ""
    if secret:
        return "**********"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
