"""Checks that YAML gives values or a YAMLError that leaves the content out, and that aliases cannot make it grow."""

from __future__ import annotations

import pytest
import yaml

from schemas.yaml_text import parse_yaml, yaml_fault


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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("url: hush: hush", "line 1, column 10: mapping values are not allowed here"),
        ("hush:\n\tport: 1", r"line 2, column 1: found character '\t' that cannot start any token"),
        ("- a\nurl: hush", "line 2, column 1: expected <block end>, but found '?'"),
        ("url: 'hush", "line 1, column 11: found unexpected end of stream"),
        ("url: *hush", "line 1, column 6: found undefined alias '…'"),
        ("url: !hush x", "line 1, column 6: could not determine a constructor for the tag '…'"),
        ("url: \"!it's\" !hu'sh x", "line 1, column 14: expected <block end>, but found '<tag>'"),
        ("a: 1\nday: 2001-99-99", "line 2, column 6: a value cannot be read: month must be in 1..12"),
        ("url: hush\x01", "character 10: special characters are not allowed"),
        ("[" * 1_000, "its lists and mappings are nested too deeply"),
    ],
)
def test_yaml_fault_has_place_and_reason_and_nothing_of_the_text(text: str, fault: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        parse_yaml(text)
    assert yaml_fault(caught.value) == fault


def test_yaml_fault_is_one_short_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        parse_yaml("a: " + "1" * 5_000)
    assert len(yaml_fault(caught.value)) < 250
    assert yaml_fault(yaml.YAMLError("one\ntwo " + "x" * 1_000)).startswith("one two xxx")
