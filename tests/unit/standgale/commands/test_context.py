"""Tables of the command line stay readable on 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from standgale.commands.context import table


def test_table_keeps_whole_columns_on_one_line_and_cuts_no_text() -> None:
    shown = table("id", "about", whole=["id"])
    shown.add_row("e758fab3-1fa7-5df2-83ca-b3ff2165d02d", "/a/path/without/any/space" * 5)
    written = io.StringIO()
    Console(file=written, width=80).print(shown)
    text = written.getvalue()
    assert "e758fab3-1fa7-5df2-83ca-b3ff2165d02d" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
