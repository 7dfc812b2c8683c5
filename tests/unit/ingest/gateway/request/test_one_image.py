"""Forms are parsed within limits, and a wrong part is refused with the name that the image must have."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.multipart import OVERHEAD_BYTES
from ingest.gateway.request.image_parts import MAX_PARTS
from ingest.gateway.request.one_image import Form
from ingest.images.check import FileTooLargeError
from tests.harnesses.forms import parsed, parsed_pieces

TYPE = "multipart/form-data; boundary=edge"
MAX_METADATA = 16_384


def part(name: str, data: bytes, extra: str = "") -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{extra}\r\nContent-Type: text/plain\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = b"--edge--\r\n"


def test_a_form_returns_image_and_fields() -> None:
    image = bytes(range(256)) * 10 + b"\r\n--edg\r\n--"
    body = part("device_id", b"d-1") + part("image", image, '; filename="DJI_1.JPG"') + part("metadata", "ä".encode())
    assert parsed(body + END, TYPE, MAX_METADATA) == Form(image, "DJI_1.JPG", [("device_id", "d-1"), ("metadata", "ä")])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cut off"),
        (b"hello", "not a multipart form"),
        (b"--edgeX\r\n", "begins with the boundary"),
        (part("image", b"x"), "cut off"),
        (part("device_id", b"d") + END, "0 parts called image"),
        (part("image", b"x") * 2 + END, "2 parts called image"),
        (part("image", b"x") + part("device_id", b"\xff") + END, "UTF-8"),
        (part("x", b"") * (MAX_PARTS + 1) + END, "more than"),
        (b"--edge\r\n" + b"A: b\r\n" * 50 + b"\r\nx\r\n" + END, "not a multipart form"),
        (b"--edge\r\nA: " + b"b" * 10_000 + b"\r\n\r\nx\r\n" + END, "not a multipart form"),
    ],
)
def test_other_bodies_are_refused(body: bytes, why: str) -> None:
    with pytest.raises(ValidationFailedError, match=why):
        parsed(body, TYPE, MAX_METADATA)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", f"{TYPE}{'e' * 300}"])
def test_a_form_needs_a_boundary(kind: str) -> None:
    with pytest.raises(ValidationFailedError, match=r"(?i)boundary"):
        parsed(part("image", b"x") + END, kind, MAX_METADATA)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_bytes_break_the_form_reader(noise: bytes, at: int) -> None:
    whole = part("device_id", b"d-1") + part("image", b"some bytes", '; filename="a"') + END
    for body in (noise, whole[:at] + noise + whole[at:], whole[:at]):
        try:
            parsed(body, TYPE, MAX_METADATA)
        except ValidationFailedError as error:
            assert error.field


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (part("file", b"\xff\xd8", '; filename="scene.jpg"'), "part 'file' with the file 'scene.jpg'; .* called image"),
        (part("picture", b"text" + b"x" * OVERHEAD_BYTES), "has 65540 bytes; .* must be called image"),
        (part("device_id", b"\xff\xd8"), "'device_id' is not UTF-8 text; .* must be called image"),
        (part("altitude_m", b"").replace(b"text/plain", b"image/png"), "'altitude_m'; .* must be called image"),
        (part("image", b""), "the part image is empty"),
        (part("", b"x"), "has no name"),
    ],
)
def test_the_part_that_the_image_must_have_is_named(body: bytes, why: str) -> None:
    with pytest.raises(ValidationFailedError, match=why) as caught:
        parsed(body + END, TYPE, MAX_METADATA)
    assert caught.value.details or caught.value.field == "name"


@pytest.mark.parametrize("body", [b"", part("file", b"x", '; filename="a.jpg"'), part("device_id", b"\xff")])
def test_the_hint_names_the_further_fields_of_the_endpoint(body: bytes) -> None:
    for also in ((), ("timestamp",)):
        with pytest.raises(ValidationFailedError) as caught:
            parsed(body + END, TYPE, MAX_METADATA, also=also)
        assert "captured_at" in str(caught.value.details)
        assert ("timestamp" in str(caught.value.details)) is bool(also)


def test_metadata_may_be_sent_as_a_file() -> None:
    body = part("image", b"x") + part("metadata", b"{}", '; filename="flight.json"')
    assert parsed(body + END, TYPE, MAX_METADATA).fields == [("metadata", "{}")]


@pytest.mark.parametrize(
    "body",
    [
        b"--edge\r\n\r\n" + b"\r\n--edge".join([b""] * 1_200_000),
        b"--edge\r\n\r\n" + b"\r\n--edgX" * 1_000_000 + b"\r\n--edge--",
        b"--edge\r\n" + b"a:b\r\n" * 2_000_000,
        b"\r\n" * 5_000_000 + b"--edge--",
        b"--edge\r\nContent-Disposition: form-data; name=" + b'";' * 5_000_000,
    ],
    ids=["boundaries", "almost-boundaries", "part-headers", "empty-lines", "quotes"],
)
def test_a_form_of_ten_megabytes_takes_less_than_a_tenth_of_a_second(body: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(ValidationFailedError):
        parsed(body, TYPE, MAX_METADATA)
    assert time.process_time() - begin < 0.1


def test_an_image_that_is_too_large_is_refused_with_its_size() -> None:
    body = part("image", b"x" * 1_001) + part("device_id", b"d") + END
    with pytest.raises(FileTooLargeError, match=r"1001 bytes; at most 1000 .*gateway\.max_image_bytes"):
        parsed(body, TYPE, MAX_METADATA, max_image_bytes=1_000)
    assert len(parsed(body, TYPE, MAX_METADATA, max_image_bytes=1_001).image) == 1_001


def test_an_image_is_in_memory_once_while_it_arrives() -> None:
    """All of the body and the image were in memory together, for as long as the form was read."""
    size = 4_000_000
    body = part("image", b"x" * size) + END
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    held: list[int] = []

    def hand_out() -> Iterator[bytes]:
        for piece in pieces:
            held.append(tracemalloc.get_traced_memory()[0])
            yield bytes(bytearray(piece))

    tracemalloc.start()
    form = parsed_pieces(hand_out(), TYPE, MAX_METADATA)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(form.image) == size
    assert max(held) < 1.3 * size
    assert left < 1.1 * size
