"""Numbers in the spellings of cameras."""

from __future__ import annotations

import pytest

from ingest.images.metadata.numbers import parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("+40.10", 40.1), ("-8759/100", -87.59), ("+-45.13", -45.13), ("50,5", 50.5), (".5", 0.5), ("5.", 5.0)),
        *((" 12 m ", 12.0), ("-90°", -90.0), ("1e2", 100.0), ("0.00025158791998971484", 0.00025158791998971484)),
    ],
)
def test_number_is_read(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "high", "nan", "inf", "1e999", "1/0", "1,234", "1.234,5", "--5", "٣", "9" * 90, "1 2"]
)
def test_other_text_is_no_number(text: str) -> None:
    assert parse_number(text) is None
