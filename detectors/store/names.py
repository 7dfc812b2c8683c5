"""Checks names for a model store, builds keys from them, and sorts versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from detectors.card.card import ModelCard
from detectors.errors import ModelLoadError
from schemas.event_base import ModelRef

CARD = "model.yaml"
CHECKSUM = ".sha256"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,49}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=@()-]{0,199}")
_PARTS = re.compile(r"\d+|\D+")


def require_safe_ref(model: ModelRef) -> ModelRef:
    """Return ``model`` if its parts can be folder names. Raises ModelLoadError for a path out of the store."""
    for what, value, pattern in (("name", model.name, _NAME), ("version", model.version, _VERSION)):
        if not pattern.fullmatch(value):
            raise ModelLoadError(
                f"{value!r} is no {what} of a model: it may have letters, digits, dot, hyphen and underscore, and "
                "begins with a letter or digit"
            )
    return model


def require_safe_file(name: str, whose: str) -> str:
    """Return ``name`` if it is a plain file name. Raises ModelLoadError for a path, or a name that the store needs.

    ``whose``: what names the file, for the error text.
    """
    if not _FILE.fullmatch(name) or name == CARD or name.endswith(CHECKSUM):
        raise ModelLoadError(
            f"{whose} names the file {name!r}, which cannot be in a model store: use a plain name without "
            f"folders, of letters, digits and . _ - + = @ ( ), other than {CARD} and *{CHECKSUM}; "
            "put the file next to the card under such a name"
        )
    return name


def key_of(model: ModelRef, file: str) -> str:
    """Return the key of ``file`` of ``model`` in any store; both names must be safe."""
    return f"{model.name}/{model.version}/{file}"


def card_refs(keys: Iterable[str]) -> Sequence[ModelRef]:
    """Return the versions whose cards are among ``keys``, sorted; other keys are ignored."""
    found: set[tuple[str, str]] = set()
    for key in keys:
        name, _, rest = key.partition("/")
        version, _, file = rest.partition("/")
        if file == CARD and _NAME.fullmatch(name) and _VERSION.fullmatch(version):
            found.add((name, version))
    refs = [ModelRef(name=name, version=version) for name, version in found]
    return sorted(refs, key=lambda ref: (ref.name, version_order(ref.version)))


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key for versions that compares numbers as numbers, so that 1.10.0 comes after 1.9.0."""
    parts = _PARTS.findall(version)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def files_of(card: ModelCard) -> Mapping[str, str | None]:
    """Return the files of the card's version with their SHA-256; None for a tokenizer without a checksum.

    Raises ModelLoadError when one of the names cannot be in a model store.
    """
    whose = f"the card of {card.name} {card.version}"
    files: dict[str, str | None] = {card.file: card.sha256, **card.files}
    if card.text is not None:
        files.setdefault(card.text.tokenizer, None)
    for name in files:
        require_safe_file(name, whose)
    return files


def ref_of(name: str, version: str) -> ModelRef:
    """Return the version that a person named. Raises ModelLoadError when the names are not valid."""
    try:
        return require_safe_ref(ModelRef(name=name, version=version))
    except ValidationError as error:
        raise ModelLoadError(f"{name!r} {version!r} is no model: give a name and a version like 1.0.0") from error
