"""Makes the text prompt of a model (Grounding DINO): from class names to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from detectors.card.card import ClassCard, ModelCard, TextCard
from detectors.errors import ModelLoadError
from detectors.geometry.arrays import BoolArray, IndexArray
from detectors.heads.port import PromptTokens
from infra.extras import install_extra
from infra.regular_files import read_regular

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MOST_TOKENS = 256
"""The models were trained with prompts of up to so many tokens; each has a separate place in their outputs."""

TOKENIZER_FILE = "tokenizer.json"
_LARGEST_TOKENIZER_BYTES = 256 << 20
_SEPARATOR = " . "
# The models treat these as the end of one class.
_ENDS = (".", "?")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Holds a prompt as tokens, for example ``[CLS] drone . small boat . [SEP]``."""

    text: str
    """The prompt"""
    ids: tuple[int, ...]
    """The L tokens; L is at most MOST_TOKENS"""
    spans: tuple[tuple[int, int], ...]
    """For each class the place of its first token, and the place after its last, which has the token that ends it"""
    threshold: float
    """See TextCard"""
    pad: int = 0
    """The token that fills up a longer text"""

    @property
    def tokens(self) -> PromptTokens:
        """Return what the head needs to know about the prompt."""
        return PromptTokens(self.spans, len(self.ids), self.threshold)

    def padded(self, length: int) -> IndexArray:
        """Return int64 (length,): the tokens, then padding."""
        return np.array(self.ids + (self.pad,) * (length - len(self.ids)), np.int64)

    def mask(self, length: int) -> BoolArray:
        """Return bool (length,): which places have a token of the prompt."""
        return np.arange(length) < len(self.ids)

    def positions(self, length: int) -> IndexArray:
        """Return int64 (length,): the place of each token within its class; each class begins at 0 again."""
        places = np.zeros(length, np.int64)
        for start, end in self.spans:
            places[start : end + 1] = np.arange(end + 1 - start)
        return places

    def attention(self, length: int) -> BoolArray:
        """Return bool (length, length): which tokens see each other: those of a class; others only themselves."""
        seen = np.eye(length, dtype=np.bool_)
        for start, end in self.spans:
            seen[start : end + 1, start : end + 1] = True
        return seen


def read_prompt(card: ModelCard, card_path: Path) -> Prompt | None:
    """Return the prompt of the card's classes, or None for a model that takes no text prompt.

    Its tokenizer's checksum is compared with all other files of the card. Raises ModelLoadError when the tokenizer is
    missing or damaged, or a class name cannot be a prompt.
    """
    if card.text is None:
        return None
    path = card_path.parent / card.text.tokenizer
    data = _read(path, f"text.tokenizer in {card_path}")
    return _prompt(data, path, [one.name for one in card.classes], card.text.threshold)


def with_prompt(card: ModelCard, prompt: str) -> ModelCard:
    """Return ``card`` with the classes that ``prompt`` names, with full stops between, in place of its own.

    Raises ModelLoadError for a model that takes no text, and for a prompt without a name or with one that is too long.
    """
    if card.text is None:
        raise ModelLoadError(f"{card.name} {card.version} takes no prompt; ask for its classes, or for another model")
    names = [name for part in prompt.split(".") if (name := " ".join(part.split()))]
    if not names:
        raise ModelLoadError("the prompt names nothing; give names with full stops between: bird . small boat")
    try:
        classes = tuple(ClassCard(name=name) for name in names)
        return ModelCard.model_validate({**card.model_dump(exclude={"classes"}), "classes": classes})
    except ValidationError as error:
        raise ModelLoadError(f"the prompt: {error.errors()[0]['msg']}") from error


@dataclass(frozen=True, slots=True)
class PromptForFile:
    """Holds the text section of a card to be written for a model file, the files it names, and the prompt."""

    text: TextCard
    files: Mapping[str, str]
    prompt: Prompt


def text_beside(model: Path, names: Sequence[str]) -> PromptForFile:
    """Return the prompt for ``names`` and a model file without a card, with the tokenizer next to the file.

    Raises ModelLoadError as :func:`read_prompt` does.
    """
    path = model.parent / TOKENIZER_FILE
    data = _read(path, "the place of the tokenizer, next to the model")
    text = TextCard(tokenizer=path.name)
    return PromptForFile(text, {path.name: sha256(data).hexdigest()}, _prompt(data, path, names, text.threshold))


def _read(path: Path, what: str) -> bytes:
    try:
        return read_regular(path, _LARGEST_TOKENIZER_BYTES)
    except OSError as error:
        raise ModelLoadError(
            f"tokenizer {path} ({what}) cannot be read ({error.strerror}); "
            f"put the {TOKENIZER_FILE} there that was published with the model"
        ) from error


def _prompt(data: bytes, path: Path, names: Sequence[str], threshold: float) -> Prompt:
    asked = [_asked(name) for name in names]
    twice = sorted({each for each in asked if asked.count(each) > 1})
    if twice:
        raise ModelLoadError(f"classes: {twice[0]!r} is asked for twice; names that differ in case only are one prompt")
    tokenizer = _tokenizer(data, path)
    text = _SEPARATOR.join(asked) + _SEPARATOR.rstrip()
    encoded = tokenizer.encode(text)
    if len(encoded.ids) > MOST_TOKENS:
        raise ModelLoadError(
            f"classes: {len(names)} names are {len(encoded.ids)} tokens of text, the model reads {MOST_TOKENS}; "
            "leave classes out, or use a second model for them"
        )
    spans = _spans(encoded, asked, path)
    for name, (start, end) in zip(names, spans, strict=True):
        if start == end or _unknown(tokenizer) in encoded.ids[start:end]:
            raise ModelLoadError(
                f"classes: the tokenizer {path} knows no word for {name!r}, or not all of its words; "
                "ask for it in plain English words"
            )
    return Prompt(text, tuple(encoded.ids), spans, threshold, tokenizer.token_to_id("[PAD]") or 0)


def _asked(name: str) -> str:
    """Return ``name`` as the model was trained to see it: lower case, single spaces, nothing that ends a prompt."""
    if any(each in name for each in _ENDS):
        raise ModelLoadError(f"classes: {name!r} has a full stop or question mark, which ends a prompt; leave it out")
    return " ".join(name.lower().split())


def _tokenizer(data: bytes, path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - only for models that take a text prompt
    except ImportError as error:
        raise ModelLoadError(
            f"a model that takes a text prompt needs the library that reads {path}; {install_extra('text')}"
        ) from error
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except ValueError as error:
        raise ModelLoadError(
            f"tokenizer {path} is damaged or no tokenizer ({error}); fetch {TOKENIZER_FILE} again"
        ) from error
    # The length to which the publisher cut or filled texts does not apply to this prompt.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _unknown(tokenizer: Tokenizer) -> int | None:
    unknown: str | None = getattr(tokenizer.model, "unk_token", None)
    return None if unknown is None else tokenizer.token_to_id(unknown)


def _spans(encoded: Encoding, asked: Sequence[str], path: Path) -> tuple[tuple[int, int], ...]:
    """Return where the tokens of each name in ``asked`` are. Raises ModelLoadError when they are not those of BERT."""
    special, offsets = encoded.special_tokens_mask, encoded.offsets
    bracketed = len(special) > 2 and special[0] == special[-1] == 1 and sum(special) == 2
    spans: list[tuple[int, int]] = []
    at, first = 1, 0
    for each in asked:
        end_of_name = first + len(each) + 1
        last = at
        while last < len(offsets) - 1 and offsets[last][0] < end_of_name:
            last += 1
        bracketed = bracketed and offsets[last] == (end_of_name, end_of_name + 1)
        spans.append((at, last))
        at, first = last + 1, first + len(each) + len(_SEPARATOR)
    if not bracketed or at != len(special) - 1:
        raise ModelLoadError(
            f"tokenizer {path} does not split text as BERT does ([CLS] first, [SEP] last, a token for each full stop); "
            f"take the {TOKENIZER_FILE} that was published with the model"
        )
    return tuple(spans)
