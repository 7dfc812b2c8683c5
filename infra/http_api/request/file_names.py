"""Makes labels of the file names that clients send."""

from __future__ import annotations

import unicodedata

_MAX_FILENAME = 255
# Normalising takes time with the square of a run of combining marks: of this many characters, a fraction of a ms.
_MAX_RAW_FILENAME = 1_024


def sanitise_filename(name: str) -> str | None:
    """Return the last component of ``name`` without characters that could mislead a program or a reader, or None.

    It is only a label; no file gets this name. Of a long name only the end is read, at a cost that is bounded.
    """
    end = name[-_MAX_RAW_FILENAME:]
    base = end[max(end.rfind("/"), end.rfind("\\")) + 1 :]
    clean = "".join(
        char
        for char in unicodedata.normalize("NFC", base)
        if unicodedata.category(char)[0] != "C" and char not in '<>:"|?*'
    )
    return clean.strip().lstrip(".")[-_MAX_FILENAME:] or None
