"""Makes the standard streams usable everywhere: in ASCII terminals, closed, or with a reader that has gone."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping

# The name of our encoding: ASCII, with plain replacements for the other characters of our texts.
PLAIN = "standgale_plain"
_REPLACEMENTS = {
    "…": "...", "×": "x", "µ": "u", "μ": "u", "—": "-", "–": "-", "−": "-", "≥": ">=", "≤": "<=", "→": "->", "±": "+-",
    "·": "*", "•": "*", "²": "2", "°": " deg", "‘": "'", "’": "'", "“": '"', "”": '"', "\xa0": " ", "✓": "ok",
    "█": "#", "━": "-", "╸": "-", "╺": "-", "─": "-", "│": "|", "┃": "|", "┌": "+", "┐": "+", "└": "+", "┘": "+",
}  # fmt: skip
_ASCII_LOCALES = ("C", "POSIX")


def prepare_streams(environ: Mapping[str, str] = os.environ) -> None:
    """Open closed standard streams on the null device, and write plain text where the terminal takes ASCII only."""
    _open_closed()
    codecs.register(_find_plain)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if _takes_ascii_only(stream.encoding, environ):
            stream.reconfigure(encoding=PLAIN)
        elif stream.errors == "strict":
            # Names of files may have bytes that are no text.
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> None:
    """Write what is left in the standard streams; what nobody reads any more is dropped, without a traceback."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Python would try again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def writes_unicode() -> bool:
    """Whether the standard output takes every character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def plain_text(text: str) -> str:
    """Return ``text`` in ASCII: known characters as their plain replacement, others as the escape that JSON has.

    So a line of a log stays valid JSON.
    """
    if text.isascii():
        return text
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _open_closed() -> None:
    """Give numbers 0 to 2 to the null device where they are closed, or the next file or socket would get them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (a number, for good)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _takes_ascii_only(encoding: str, environ: Mapping[str, str]) -> bool:
    """Whether a stream of ``encoding`` must get ASCII: it cannot do more, or the user has asked for the C locale.

    In the C locale Python writes UTF-8 all the same, and sets LC_CTYPE to C.UTF-8; the terminal knows nothing of it.
    """
    if not codecs.lookup(encoding).name.startswith("utf"):
        return True
    if environ.get("PYTHONIOENCODING") or environ.get("PYTHONUTF8") == "1":
        return False
    if environ.get("LC_ALL"):
        return environ["LC_ALL"] in _ASCII_LOCALES
    asked = environ.get("LC_CTYPE", "")
    return environ.get("LANG") in _ASCII_LOCALES and asked in ("", *_ASCII_LOCALES, "C.UTF-8", "C.utf8", "UTF-8")


def _encode(text: str, _errors: str = "strict") -> tuple[bytes, int]:
    return plain_text(text).encode("ascii"), len(text)


def _decode(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return bytes(data).decode("ascii", errors), len(data)


class _PlainEncoder(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        del final
        return _encode(text)[0]


class _PlainDecoder(codecs.IncrementalDecoder):
    def decode(self, data: object, final: bool = False) -> str:
        del final
        return bytes(data).decode("ascii")  # type: ignore[call-overload, no-any-return]  # any buffer of bytes


def _find_plain(name: str) -> codecs.CodecInfo | None:
    if name != PLAIN:
        return None
    return codecs.CodecInfo(
        name=PLAIN,
        encode=_encode,
        decode=_decode,  # type: ignore[arg-type]  # typeshed wants a Protocol that accepts any buffer
        incrementalencoder=_PlainEncoder,
        incrementaldecoder=_PlainDecoder,
    )
