"""The messages of a stream, and what is refused in them."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.http_api.errors.api_errors import ValidationFailedError
from ingest.settings import GatewaySettings
from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.wire import max_message_bytes, pairs_of, read_bye, read_frame, read_hello
from schemas.frame_messages import HEAD

LIMIT = 1_000


def test_frame_has_the_parts_that_its_header_names() -> None:
    frame = read_frame(struct.pack(">B3xIIQ", 1, 2, 3, 7) + b"{}abc")
    assert (frame.sequence, frame.fields, frame.image) == (7, b"{}", b"abc")


@given(st.binary(max_size=64))
def test_frame_of_any_bytes_is_read_or_ends_the_stream(message: bytes) -> None:
    try:
        frame = read_frame(message)
    except StreamEnd as end:
        assert end.code == CloseCode.BAD_MESSAGE
    else:
        assert HEAD.size + len(frame.fields) + len(frame.image) == len(message)


@given(st.text(max_size=40) | st.recursive(st.none() | st.booleans() | st.integers(), st.lists).map(json.dumps))
def test_hello_and_bye_of_any_text_end_the_stream(text: str) -> None:
    for read in (read_hello, read_bye):
        with pytest.raises(StreamEnd) as caught:
            read(text)
        assert caught.value.code == CloseCode.BAD_MESSAGE and len(caught.value.reason.encode()) <= 123


def test_hello_has_defaults() -> None:
    hello = read_hello('{"type": "hello"}')
    assert (hello.session, hello.next, hello.resume, hello.token) == (None, 1, False, "")


def test_fields_become_the_text_that_a_request_has() -> None:
    fields = {"latitude": 47.5, "yaw_deg": "3", "metadata": {"a": 1}, "altitude_m": None, "original_filename": "é.jpg"}
    assert pairs_of(json.dumps(fields).encode(), LIMIT) == [
        ("latitude", "47.5"),
        ("yaw_deg", "3"),
        ("metadata", '{"a":1}'),
        ("original_filename", "é.jpg"),
    ]
    assert pairs_of(b"", LIMIT) == []


@pytest.mark.parametrize(
    "fields",
    [b"{", b"[]", b"null", b'{"a": true}', b'{"a": [1]}', b'{"a": {}}', b'{"a": "\xff"}', b" " * 1_001, b"NaN"],
)
def test_fields_that_are_no_object_of_texts_are_refused(fields: bytes) -> None:
    with pytest.raises(ValidationFailedError):
        pairs_of(fields, LIMIT)


def test_longest_message_holds_image_and_metadata() -> None:
    settings = GatewaySettings(max_image_bytes=1_000, max_metadata_bytes=100)
    assert max_message_bytes(settings) == 20 + 1_000 + 200 + 8_192
