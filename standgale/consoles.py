"""Prints texts as they are: names of files, classes and devices may contain what a terminal takes for commands."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

# Line feed and tab are ours; the others, those of C1 among them, move the cursor, clear the screen or set titles.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PlainConsole(Console):
    """A console on which brackets, emoji names and control characters in a text are only characters.

    Colours are given as ``style``, or as ``Text``.
    """

    def __init__(self, **options: Any) -> None:
        """``options``: those of Console."""
        super().__init__(**{**options, "markup": False, "emoji": False})

    def render_str(self, text: str, **how: Any) -> Text:
        """Return ``text`` with each control character as its escape."""
        return super().render_str(without_controls(text), **how)


def without_controls(text: str) -> str:
    """Return ``text`` with each control character, except line feed and tab, as its escape."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
