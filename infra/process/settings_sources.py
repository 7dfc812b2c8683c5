"""Where settings come from: environment over YAML file over defaults, with every fault told at once.

Generic over the settings model; :mod:`infra.settings` holds the model itself and ``load_settings``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from infra.errors import SettingsError

PREFIX = "STANDGALE_"
CONFIG_VARIABLE = "STANDGALE_CONFIG"
# Variables of the same prefix that are not settings of a process: where the settings file is, and what tests use.
_NOT_SETTINGS = (CONFIG_VARIABLE,)
_NOT_SETTINGS_PREFIX = "STANDGALE_TEST_"
_NESTING = "__"
_FILE_SUFFIX = "_FILE"
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
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as people see it: ``path`` in the file, ``variable`` in the environment, and what it takes."""

    path: str
    variable: str
    takes: str
    default: str
    about: str
    secret: bool
    many: bool


def describe(model: type[BaseModel]) -> dict[Place, Setting]:
    """All settings of ``model``, by their place, in the order of declaration."""
    return dict(_describe(model, ()))


def load(
    model: type[ModelT], *, environ: Mapping[str, str], config: Path | None, overrides: Mapping[str, object]
) -> ModelT:
    """``model`` from ``overrides`` (by dotted path) over ``environ`` over the file ``config`` over defaults.

    Raises SettingsError with one line for each fault, naming the setting by variable and path.
    """
    settings = describe(model)
    raw: dict[str, Any] = {}
    faults: list[str] = []
    if config is not None:
        raw = _read_file(config, faults, settings)
    _overlay_environment(raw, environ, settings, faults)
    _overlay_overrides(raw, overrides, settings, faults)
    try:
        result = model.model_validate(raw)
    except ValidationError as error:
        faults.extend(_validation_faults(error, settings))
    else:
        if not faults:
            return result
    count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
    raise SettingsError("\n".join((f"{count} wrong:", *(f"- {fault}" for fault in faults))))


def file_variable(path: str) -> str:
    """The variable that names the file of the secret setting ``path`` (by dots)."""
    return PREFIX + path.replace(".", _NESTING).upper() + _FILE_SUFFIX


def secret_in(file: Path) -> str:
    """The secret in ``file``, without the line's end. Raises OSError or UnicodeDecodeError."""
    return file.read_text(encoding="utf-8").rstrip("\r\n")


def _describe(model: type[BaseModel], above: Place) -> Iterator[tuple[Place, Setting]]:
    for name, field in model.model_fields.items():
        place = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _describe(field.annotation, place)
            continue
        secret = _mentions(field.annotation, SecretStr)
        yield (
            place,
            Setting(
                path=".".join(place),
                variable=PREFIX + _NESTING.join(place).upper(),
                takes=_takes(field),
                default=_default_text(field.default, secret=secret),
                about=field.description or "",
                secret=secret,
                many=_mentions(field.annotation, tuple),
            ),
        )


def _mentions(annotation: object, wanted: type) -> bool:
    return (
        annotation is wanted
        or get_origin(annotation) is wanted
        or any(_mentions(part, wanted) for part in get_args(annotation))
    )


def _takes(field: FieldInfo) -> str:
    """What the field takes, in words: type, choices and bounds."""
    words = _annotation_words(field.annotation)
    bounds = [*_bound_words(field.metadata), *_bound_words(_nested_metadata(field.annotation))]
    return " ".join((words, *bounds)) if bounds else words


def _nested_metadata(annotation: object) -> list[object]:
    """The constraints inside an optional type: ``Annotated[int, Field(ge=1)] | None``."""
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


def _read_file(path: Path, faults: list[str], settings: Mapping[Place, Setting]) -> dict[str, Any]:
    """The file as a nested mapping; a file that is no such mapping is a fault, unknown keys are found by the model."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"the settings file {path} ({CONFIG_VARIABLE}) cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        faults.append(f"the settings file {path} ({CONFIG_VARIABLE}) is not UTF-8 text")
        return {}
    except yaml.YAMLError as error:
        # The error's own text quotes the line, which may hold a secret: tell the place only.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        faults.append(f"the settings file {path} ({CONFIG_VARIABLE}) is not YAML{where}")
        return {}
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        faults.append(f"the settings file {path} ({CONFIG_VARIABLE}) holds a {type(raw).__name__}, not sections")
        return {}
    # A section that is there but empty means its defaults.
    sections = {place[0] for place in settings if len(place) > 1}
    return {str(key): value for key, value in raw.items() if not (value is None and key in sections)}


def _overlay_environment(
    raw: dict[str, Any], environ: Mapping[str, str], settings: Mapping[Place, Setting], faults: list[str]
) -> None:
    places = {setting.variable: place for place, setting in settings.items()}
    secret_files = {f"{s.variable}{_FILE_SUFFIX}": place for place, s in settings.items() if s.secret and not s.many}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS or variable.startswith(_NOT_SETTINGS_PREFIX):
            continue
        if variable in places:
            # Compose files and charts pass on variables that are not set as empty ones: both mean "not given".
            if text:
                place = places[variable]
                _put(raw, place, _from_text(text, settings[place], faults))
        elif variable in secret_files:
            if text:
                place = secret_files[variable]
                _put(raw, place, _secret_from_file(variable, text, settings[place], faults))
        else:
            faults.append(_unknown_variable(variable, [*places, *secret_files]))


def _from_text(text: str, setting: Setting, faults: list[str]) -> object:
    if not setting.many:
        return text
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        faults.append(f"{setting.path} ({setting.variable}): starts with [ but is not JSON ({error.msg})")
        return []


def _secret_from_file(variable: str, text: str, setting: Setting, faults: list[str]) -> object:
    try:
        return secret_in(Path(text))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        faults.append(f"{setting.path} ({variable}): the secret's file {text} cannot be read: {reason}")
        return "unreadable"


def _overlay_overrides(
    raw: dict[str, Any], overrides: Mapping[str, object], settings: Mapping[Place, Setting], faults: list[str]
) -> None:
    for path, value in overrides.items():
        place = tuple(path.split("."))
        if place in settings:
            _put(raw, place, value)
        else:
            faults.append(f"{path}: there is no such setting{_did_you_mean(path, [s.path for s in settings.values()])}")


def _put(raw: dict[str, Any], place: Place, value: object) -> None:
    inside = raw
    for name in place[:-1]:
        deeper = inside.get(name)
        if not isinstance(deeper, dict):
            # A section that is no mapping in the file stays a fault; it must not vanish under a variable.
            if deeper is not None:
                return
            deeper = inside[name] = {}
        inside = deeper
    inside[place[-1]] = value


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; `standgale settings` lists all"


def _unknown_variable(variable: str, known: list[str]) -> str:
    fault = f"{variable}: there is no such setting{_did_you_mean(variable, known)}"
    if "_SERVICE_" in variable or "_PORT_" in variable or variable.endswith("_PORT"):
        fault += " (Kubernetes sets such variables for Services; enableServiceLinks: false in the pod turns that off)"
    return fault


def _validation_faults(error: ValidationError, settings: Mapping[Place, Setting]) -> Iterator[str]:
    """One line per fault of the model. Values of secrets are never repeated."""
    told: set[Place] = set()
    for fault in error.errors(include_url=False, include_context=False):
        location = tuple(str(part) for part in fault["loc"])
        place = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in settings), None)
        if place is not None:
            if place in told:
                continue
            told.add(place)
            setting = settings[place]
            received = "**********" if setting.secret else repr(fault["input"])[:200]
            yield f"{setting.path} ({setting.variable}): received {received}; it takes {setting.takes} ({fault['msg']})"
        elif fault["type"] == "extra_forbidden":
            path = ".".join(location)
            yield f"{path}: there is no such setting{_did_you_mean(path, [s.path for s in settings.values()])}"
        elif fault["type"] == "value_error":
            # A cross check of a section: its text names settings and values itself.
            yield fault["msg"].removeprefix("Value error, ")
        else:
            received = type(fault["input"]).__name__
            yield f"{'.'.join(location)}: received {received}; it takes a section with its settings"
