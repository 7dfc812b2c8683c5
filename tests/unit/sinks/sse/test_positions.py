"""Ids of the stream: text that names a position in the topic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.sse.positions import (
    Position,
    PositionError,
    advanced,
    decode_position,
    encode_position,
    mark_of,
    merged,
    origin_of,
    reaches,
)

offsets = st.integers(min_value=0, max_value=2**59)


@settings(deadline=None, max_examples=60)
@given(st.lists(offsets, min_size=1, max_size=16).map(tuple))
def test_encode_and_decode_position_are_inverse(position: Position) -> None:
    assert decode_position(encode_position(position), len(position)) == (position, "")
    assert decode_position(encode_position(position, "0123abcd"), len(position), "0123abcd") == (position, "0123abcd")


def test_an_id_looks_the_same_for_ever() -> None:
    assert encode_position((31, 0, 163)) == "1f.0.a3"
    assert encode_position((31, 0, 163), mark_of("a topic's id")) == "1f.0.a3-c21e2833"


def test_partitions_added_later_begin_at_their_start() -> None:
    assert decode_position("5.6", 4) == ((5, 6, 0, 0), "")
    assert decode_position("5.6-0123abcd", 4, "0123abcd") == ((5, 6, 0, 0), "0123abcd")


def test_id_of_topic_created_again_has_origin_former() -> None:
    assert decode_position("5.6.7.8-0123abcd", 2, "89abcdef") == ((5, 6), "0123abcd")
    assert origin_of("0123abcd", "89abcdef") == "former"
    assert origin_of("0123abcd", "0123abcd") == "this"
    assert origin_of("", "0123abcd") == origin_of("0123abcd", "") == origin_of("", mark_of("")) == "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "-1",
        "1,2",
        "g",
        "1.2.3.4",
        " 1",
        "1\n",
        "١",
        "f" * 16,
        "0x1",
        "1" * 5000,
        "1-",
        "1-12",
        "1-0123abcg",
        "-0123abcd",
    ],
)
def test_decode_position_refuses_other_text(text: str) -> None:
    with pytest.raises(PositionError, match="Last-Event-ID"):
        decode_position(text, 3)


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_decode_position_raises_only_position_error(text: str) -> None:
    try:
        position, _ = decode_position(text, 3)
    except PositionError:
        return
    assert len(position) == 3


def test_advanced_never_goes_back() -> None:
    assert advanced((5, 5), 1, 7) == (5, 8)
    assert advanced((5, 5), 1, 4) == (5, 5)


def test_merged_and_reaches() -> None:
    assert merged((1, 9), (5, 2)) == (5, 9)
    assert reaches((5, 9), (5, 2))
    assert not reaches((5, 1), (5, 2))
