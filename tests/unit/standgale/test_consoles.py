"""Checks that texts of others are printed as they are, and command no terminal."""

from __future__ import annotations

import io

from rich.table import Table

from standgale.consoles import PlainConsole


def test_brackets_emoji_names_and_control_characters_are_printed_as_characters() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=80)
    console.print("b[/x].png", "[bold]c", ":car:", "\x1b[2Jd\x9b1m\re\n\tf")
    table = Table("label")
    table.add_row("[red]truck[/blue] \x1b]0;title\x07")
    console.print(table)
    text = out.getvalue()
    for expected in ("b[/x].png [bold]c :car: \\x1b[2Jd\\x9b1m\\x0de", "[red]truck[/blue] \\x1b]0;title\\x07"):
        assert expected in text
    assert "\x1b" not in text
