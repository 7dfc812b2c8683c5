"""Checks that YAML of any kind gives values or a YAMLError, and that aliases cannot make it grow."""

from __future__ import annotations

import pytest
import yaml

from schemas.yaml_text import parse_yaml


def test_parse_yaml_gives_what_safe_load_gives() -> None:
    text = "a: &one {b: [1, 2.5, true, null]}\nc: *one\nd: {<<: *one, e: 2026-05-01}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 1_000, "nested too deeply"),
        ("a: 2001-99-99", "month must be"),
        ("a: " + "1" * 5_000, "4300 digits"),
        ("a: &a [*a]", "repeats what it is in"),
        ("&a {<<: *a}", "repeats what it is in"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_parse_yaml_raises_yaml_error_for_what_cannot_be_values(text: str, reason: str) -> None:
    with pytest.raises(yaml.YAMLError, match=reason):
        parse_yaml(text)


def test_parse_yaml_counts_what_aliases_repeat() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9))]
    with pytest.raises(yaml.YAMLError, match="more than 200,000 values"):
        parse_yaml("\n".join(lines))
