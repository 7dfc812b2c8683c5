"""Checks that errors repeat long arguments, settings and lists in short, with what is wrong and what to do."""

from __future__ import annotations

import pytest

from standgale.error_lines import given_values, readable


@pytest.mark.parametrize("quote", [str, repr])
def test_a_long_argument_is_repeated_in_short_wherever_it_is(quote: type[str]) -> None:
    value = "it's\\" + "x" * 100_000
    text = readable(f"--out {quote(value)}: is wrong ({quote(value)}); give a file", [value, "--out"])
    assert len(text) < 600
    assert text.startswith("--out ")
    assert "characters)" in text
    assert text.endswith("; give a file")
    assert text.count("is wrong (") == 1


def test_long_lines_and_many_lines_are_bounded_and_keep_their_ends() -> None:
    text = readable("\n".join(["first " + "y" * 50_000 + "; do this", *["more"] * 5_000]), [])
    lines = text.split("\n")
    assert lines[0].startswith("first y")
    assert lines[0].endswith("; do this")
    assert len(lines[0]) == 2_000
    assert lines[-1] == "… and 4,941 more lines"
    assert len(lines) == 61


def test_given_values_are_arguments_parts_of_options_and_our_settings() -> None:
    environ = {"STANDGALE_GATEWAY__HOST": "host", "PATH": "/bin"}
    assert set(given_values(["detect", "--iou=0.5"], environ)) == {"detect", "--iou=0.5", "0.5", "host"}
