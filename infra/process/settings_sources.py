"""Reads settings: environment over YAML file over defaults; reports all wrong settings in one error.

Generic over the settings model; :mod:`standgale.settings` holds the model of a process and ``load_settings``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from infra.errors import SettingsError
from infra.plugin_names import UNKNOWN_NAME
from infra.process.settings_reference import Place, Setting, describe_settings
from infra.secrets import secret_in
from infra.sections import NESTING, PREFIX
from infra.texts import shortened
from schemas.yaml_text import parse_yaml, yaml_fault

CONFIG_VARIABLE = "STANDGALE_CONFIG"
# Variables of the same prefix that are not settings of a process: the name of the settings file, and what tests use.
_NOT_SETTINGS = (CONFIG_VARIABLE,)
_NOT_SETTINGS_PREFIX = "STANDGALE_TEST_"
_FILE_SUFFIX = "_FILE"
_NO_VALUE = "none"
"""What a variable has for a setting without a value, or a list without entries; an empty one is not given."""
_MOST_BYTES = 1 << 20
# To find a name like an unknown one takes milliseconds.
_MOST_LISTED = 50
# The messages of these errors list the choices, which the line of the setting does already.
_LIST_CHOICES = ("literal_error", UNKNOWN_NAME)

_USER = re.compile(r"//\S*@")

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_settings(
    model: type[ModelT], *, environ: Mapping[str, str], config: Path | None, overrides: Mapping[str, object]
) -> ModelT:
    """Return a ``model`` from ``overrides`` (by dotted path) over ``environ`` over the file ``config`` over defaults.

    Variables of other systems that give a setting (:class:`infra.sections.AlsoNamed`) are between its own variable and
    the file. Raises SettingsError with one line for each problem, naming the setting by variable and path.
    """
    settings: Mapping[Place, Setting] = describe_settings(model)
    raw: dict[str, Any] = {}
    texts: list[str] = []
    if config is not None:
        raw = _read_file(config, texts, settings)
    settings = _overlay_other_names(raw, environ, settings)
    _overlay_environment(raw, environ, settings, texts)
    _overlay_overrides(raw, overrides, settings, texts)
    try:
        result = model.model_validate(raw)
    except ValidationError as error:
        texts.extend(islice(_validation_problems(error, settings), _MOST_LISTED))
        if error.error_count() > _MOST_LISTED:
            texts.append(f"… and more: the settings have {error.error_count():,} problems")
    else:
        if not texts:
            return result
    count = "1 setting is" if len(texts) == 1 else f"{len(texts)} settings are"
    raise SettingsError("\n".join((f"{count} wrong:", *(f"- {problem}" for problem in texts))))


def file_variable(path: str) -> str:
    """Return the variable that names the file of the secret setting ``path`` (with dots)."""
    return PREFIX + path.replace(".", NESTING).upper() + _FILE_SUFFIX


def secret_file(path: str) -> Path | None:
    """Return the file that the environment names for the secret setting ``path`` (with dots), or None."""
    named = os.environ.get(file_variable(path))
    return Path(named) if named else None


def _read_file(path: Path, texts: list[str], settings: Mapping[Place, Setting]) -> dict[str, Any]:
    """Return the file as a nested mapping; anything else is a problem. The model finds unknown keys."""
    try:
        with path.open("rb") as file:
            # It may be a pipe, whose length nobody knows.
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            texts.append(f"the settings file {path} ({CONFIG_VARIABLE}) has more than {_MOST_BYTES:,} bytes")
            return {}
        raw = parse_yaml(content.decode())
    except OSError as error:
        texts.append(f"the settings file {path} ({CONFIG_VARIABLE}) cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        texts.append(f"the settings file {path} ({CONFIG_VARIABLE}) is not UTF-8 text")
        return {}
    except yaml.YAMLError as error:
        texts.append(f"the settings file {path} ({CONFIG_VARIABLE}) is not YAML: {yaml_fault(error)}")
        return {}
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        texts.append(f"the settings file {path} ({CONFIG_VARIABLE}) holds a {type(raw).__name__}, not sections")
        return {}
    # A section that is there but empty means its defaults.
    sections = {place[0] for place in settings if len(place) > 1}
    return {str(key): value for key, value in raw.items() if not (value is None and key in sections)}


def _overlay_other_names(
    raw: dict[str, Any], environ: Mapping[str, str], settings: Mapping[Place, Setting]
) -> Mapping[Place, Setting]:
    """Put in what variables of other systems give; return the settings, where those have such a variable's name."""
    named = dict(settings)
    for place, setting in settings.items():
        also = setting.also
        if also is None or environ.get(setting.variable) or not environ.get(also.variable):
            continue
        if also.only_with is not None:
            field, value = also.only_with
            other = (*place[:-1], field)
            if (environ.get(settings[other].variable) or _get(raw, other) or settings[other].default) != value:
                continue
        _put(raw, place, environ[also.variable])
        # So that an error names the variable that is wrong.
        named[place] = replace(setting, variable=also.variable)
    return named


def _get(raw: Mapping[str, Any], place: Place) -> object:
    inside: object = raw
    for name in place:
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside


def _overlay_environment(
    raw: dict[str, Any], environ: Mapping[str, str], settings: Mapping[Place, Setting], texts: list[str]
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
                _put(raw, place, _from_text(text, settings[place], texts))
        elif variable in secret_files:
            if text:
                place = secret_files[variable]
                _put(raw, place, _secret_from_file(variable, text, settings[place], texts))
        else:
            texts.append(_unknown_variable(variable, [*places, *secret_files]))


def _from_text(text: str, setting: Setting, texts: list[str]) -> object:
    if text.strip().lower() == _NO_VALUE and (setting.optional or (setting.many and not setting.secret)):
        return [] if setting.many else None
    if not setting.many:
        return text
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        texts.append(f"{setting.path} ({setting.variable}): starts with [ but is not JSON ({error.msg})")
        return []


def _secret_from_file(variable: str, text: str, setting: Setting, texts: list[str]) -> object:
    try:
        return secret_in(Path(text))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        texts.append(f"{setting.path} ({variable}): the secret's file {shortened(text)} cannot be read: {reason}")
        return "unreadable"


def _overlay_overrides(
    raw: dict[str, Any], overrides: Mapping[str, object], settings: Mapping[Place, Setting], texts: list[str]
) -> None:
    for path, value in overrides.items():
        place = tuple(path.split("."))
        if place in settings:
            _put(raw, place, value)
        else:
            texts.append(
                f"{shortened(path)}: there is no such setting{_did_you_mean(path, [s.path for s in settings.values()])}"
            )


def _put(raw: dict[str, Any], place: Place, value: object) -> None:
    inside = raw
    for name in place[:-1]:
        deeper = inside.get(name)
        if not isinstance(deeper, dict):
            # A section that is not a mapping in the file must stay a problem: a variable must not replace it.
            if deeper is not None:
                return
            deeper = inside[name] = {}
        inside = deeper
    inside[place[-1]] = value


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; `standgale settings` lists all"


def _unknown_variable(variable: str, known: list[str]) -> str:
    problem = f"{shortened(variable)}: there is no such setting{_did_you_mean(variable, known)}"
    if "_SERVICE_" in variable or "_PORT_" in variable or variable.endswith("_PORT"):
        problem += " (Kubernetes sets such variables for Services; enableServiceLinks: false in the pod turns that off)"
    return problem


def _without_users(shown: str) -> str:
    """Return ``shown`` without the user and the password that an address in it may have."""
    return _USER.sub("//**********@", shown)


def _validation_problems(error: ValidationError, settings: Mapping[Place, Setting]) -> Iterator[str]:
    """Yield one line per problem of the model. Values of secrets are never repeated."""
    reported: set[Place] = set()
    for entry in error.errors(include_url=False, include_context=False):
        location = tuple(str(part) for part in entry["loc"])
        place = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in settings), None)
        if place is not None:
            if place in reported:
                continue
            reported.add(place)
            setting = settings[place]
            received = "**********" if setting.secret else shortened(_without_users(repr(entry["input"])))
            why = "" if entry["type"] in _LIST_CHOICES else f" ({entry['msg'].removeprefix('Value error, ')})"
            yield f"{setting.path} ({setting.variable}): received {received}; it takes {setting.takes}{why}"
        elif entry["type"] == "extra_forbidden":
            path = ".".join(location)
            hint = _did_you_mean(path, [s.path for s in settings.values()])
            yield f"{shortened(path)}: there is no such setting{hint}"
        elif entry["type"] == "value_error":
            # A check over several settings of a section: its text names settings and values.
            yield entry["msg"].removeprefix("Value error, ")
        else:
            received = type(entry["input"]).__name__
            yield f"{'.'.join(location)}: received {received}; it takes a section with its settings"
