"""Reads the variables of the environment that describe an inference job."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.errors import SettingsError
from infra.storage.s3_address import S3Address
from infra.texts import shortened

T = TypeVar("T")
Place = S3Address | Path
"""An address in an S3 server, or a path of this machine"""

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "INFERENCE_JOB_ID": ("JOB_ID",),
    "AWS_ENDPOINT_URL": ("AWS_ENDPOINT_URL_S3",),
    "AWS_REGION": ("AWS_DEFAULT_REGION",),
}
_LONGEST_SHOWN = 200
_MOST_PATHS = 10_000
_MOST_DETECTIONS = 100_000
_S3_TIMEOUT_S = 30.0


class VariablesError(SettingsError):
    """Variables are missing or wrong; the text names each of them."""


@dataclass(frozen=True, slots=True)
class S3Variables:
    """Says how the S3 server is reached; see :class:`infra.storage.s3_client.S3Access`."""

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    timeout_s: float = _S3_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Callback:
    """Says where the results are posted."""

    url: str
    token: SecretStr | None


@dataclass(frozen=True, slots=True)
class JobVariables:
    """Holds the variables of one job."""

    job_id: int
    callback: Callback
    images: tuple[Place, ...]
    """Pictures, and folders of pictures"""
    checkpoint: str
    output: Place
    confidence: float
    iou: float
    max_detections: int
    s3: S3Variables

    @property
    def in_s3(self) -> Sequence[str]:
        """The names of the variables with addresses in S3."""
        is_in_s3 = {
            "IMAGE_PATHS": any(isinstance(place, S3Address) for place in self.images),
            "CHECKPOINT_PATH": "://" in self.checkpoint,
            "OUTPUT_PATH": isinstance(self.output, S3Address),
        }
        return [name for name, found in is_in_s3.items() if found]


def read_callback(environ: Mapping[str, str]) -> Callback | None:
    """Return where to report when other variables are wrong; None when that is wrong as well."""
    try:
        return _callback(environ)
    except VariablesError:
        return None


def read_variables(environ: Mapping[str, str]) -> JobVariables:
    """Return the variables of the job. Raises VariablesError that names all that are missing or wrong."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field, read in _READERS.items():
        try:
            values[field] = read(environ)
        except VariablesError as error:
            faults.append(str(error))
    if faults:
        raise VariablesError("; ".join(faults))
    return JobVariables(**values)


def _given(environ: Mapping[str, str], name: str) -> str | None:
    """Return the value of the variable ``name`` or of its alias; None when both are missing or empty."""
    return next((environ[each] for each in (name, *_ALIASES.get(name, ())) if environ.get(each)), None)


def _taken(environ: Mapping[str, str], name: str, parse: Callable[[str], T], default: str | None) -> T:
    text = _given(environ, name) or default
    if text is None:
        raise VariablesError(f"{name}: is missing; it takes {_TAKES.get(name, 'a value')}")
    try:
        return parse(text)
    except ValueError as error:
        raise VariablesError(f"{name}: received {shortened(text, _LONGEST_SHOWN)!r}; {error}") from error


_TAKES: Mapping[str, str] = {
    "INFERENCE_JOB_ID": "the number of the job",
    "CALLBACK_URL": "the whole address to which the results are posted",
    "IMAGE_PATHS": "s3://bucket/folder/ with the pictures, or a JSON list of addresses",
    "CHECKPOINT_PATH": "an ONNX file, the folder of a card, or model:NAME@VERSION",
    "OUTPUT_PATH": "s3://bucket/folder/ for the results",
}


def _callback(environ: Mapping[str, str]) -> Callback:
    url = _taken(environ, "CALLBACK_URL", _url, None)
    token = _given(environ, "CALLBACK_TOKEN")
    if token is not None and not (token.isascii() and token.isprintable()):
        raise VariablesError("CALLBACK_TOKEN: has characters that no token has; it takes printable ASCII")
    return Callback(url, None if token is None else SecretStr(token))


def _s3(environ: Mapping[str, str]) -> S3Variables:
    key, secret = _given(environ, "AWS_ACCESS_KEY_ID"), _given(environ, "AWS_SECRET_ACCESS_KEY")
    if (key is None) != (secret is None):
        missing = "AWS_ACCESS_KEY_ID" if key is None else "AWS_SECRET_ACCESS_KEY"
        raise VariablesError(f"{missing}: is missing while the other one is given; give both, or neither")
    endpoint = None if _given(environ, "AWS_ENDPOINT_URL") is None else _taken(environ, "AWS_ENDPOINT_URL", _url, None)
    # Keys stay in the environment, where the client finds them with a session token that belongs to them.
    return S3Variables(endpoint, _given(environ, "AWS_REGION") or "us-east-1")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("it takes an address such as http://backend:8000/api/…")
    _ = parts.port
    return text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text[:20]) <= high:
            raise ValueError(f"it takes a whole number from {low} to {high}")
        return int(text)

    return parse


def _unit(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError("it takes a number from 0.0 to 1.0")
    return number


def place_of(text: str) -> Place:
    """Return the place that ``text`` names. Raises ValueError."""
    if "://" in text:
        return S3Address.parse(text)
    if "\0" in text:
        raise ValueError("it has a null character")
    return Path(text)


def _images(text: str) -> tuple[Place, ...]:
    texts: object = [text]
    if text.lstrip().startswith("["):
        try:
            texts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"it is no JSON list: {error}") from error
    if not isinstance(texts, list) or not all(isinstance(each, str) and each for each in texts):
        raise ValueError("it takes one address, or a JSON list of them")
    if not 0 < len(texts) <= _MOST_PATHS:
        raise ValueError(f"it takes 1 to {_MOST_PATHS} addresses; name a folder, s3://bucket/folder/")
    return tuple(place_of(each) for each in texts)


def _checkpoint(text: str) -> str:
    if "://" in text:
        S3Address.parse(text)
    return text


def _folder(text: str) -> Place:
    place = place_of(text)
    if isinstance(place, S3Address) and not place.is_folder:
        return S3Address(place.bucket, f"{place.key}/")
    return place


_READERS: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
    "job_id": lambda environ: _taken(environ, "INFERENCE_JOB_ID", _whole(1, 2**31 - 1), None),
    "callback": _callback,
    "images": lambda environ: _taken(environ, "IMAGE_PATHS", _images, None),
    "checkpoint": lambda environ: _taken(environ, "CHECKPOINT_PATH", _checkpoint, None),
    "output": lambda environ: _taken(environ, "OUTPUT_PATH", _folder, None),
    "confidence": lambda environ: _taken(environ, "CONFIDENCE_THRESHOLD", _unit, "0.25"),
    "iou": lambda environ: _taken(environ, "IOU_THRESHOLD", _unit, "0.45"),
    "max_detections": lambda environ: _taken(environ, "MAX_DETECTIONS", _whole(1, _MOST_DETECTIONS), "100"),
    "s3": _s3,
}
