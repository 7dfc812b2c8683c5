"""What things in a model store are called: which names are safe, the keys made of them, and the order of versions."""

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


def checked_ref(model: ModelRef) -> ModelRef:
    """``model``, when its parts can be folder names. Raises ModelLoadError for anything that could leave the store."""
    for what, value, pattern in (("name", model.name, _NAME), ("version", model.version, _VERSION)):
        if not pattern.fullmatch(value):
            raise ModelLoadError(
                f"{value!r} is no {what} of a model: it takes letters, digits, dot, hyphen and underscore, beginning "
                "with a letter or digit"
            )
    return model


def checked_file(name: str, whose: str) -> str:
    """``name``, when it is a plain file name. Raises ModelLoadError for a path, or for a name the store needs."""
    if not _FILE.fullmatch(name) or name == CARD or name.endswith(CHECKSUM):
        raise ModelLoadError(
            f"{whose} names the file {name!r}, which cannot lie in a model store: it takes a plain name without "
            f"folders, of letters, digits and . _ - + = @ ( ), other than {CARD} and *{CHECKSUM}; "
            "put the file beside the card under such a name"
        )
    return name


def key_of(model: ModelRef, file: str) -> str:
    """Where ``file`` of ``model`` lies, below the root of any store; both must have been checked."""
    return f"{model.name}/{model.version}/{file}"


def card_refs(keys: Iterable[str]) -> Sequence[ModelRef]:
    """The versions whose cards are among ``keys``, in order; everything else is passed over."""
    found: set[tuple[str, str]] = set()
    for key in keys:
        name, _, rest = key.partition("/")
        version, _, file = rest.partition("/")
        if file == CARD and _NAME.fullmatch(name) and _VERSION.fullmatch(version):
            found.add((name, version))
    refs = [ModelRef(name=name, version=version) for name, version in found]
    return sorted(refs, key=lambda ref: (ref.name, version_order(ref.version)))


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort versions by: numbers in them count as numbers, so 1.10.0 comes after 1.9.0."""
    parts = _PARTS.findall(version)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def files_of(card: ModelCard) -> Mapping[str, str | None]:
    """The files that belong to the card's version with their SHA-256; None for a tokenizer it gives none for.

    Raises ModelLoadError when one of them could not lie beside the card.
    """
    whose = f"the card of {card.name} {card.version}"
    files: dict[str, str | None] = {card.file: card.sha256, **card.files}
    if card.text is not None:
        files.setdefault(card.text.tokenizer, None)
    for name in files:
        checked_file(name, whose)
    return files


def ref_of(name: str, version: str) -> ModelRef:
    """The version a person named. Raises ModelLoadError when it is none."""
    try:
        return checked_ref(ModelRef(name=name, version=version))
    except ValidationError as error:
        raise ModelLoadError(f"{name!r} {version!r} is no model: give a name and a version, 1.0.0 say") from error
