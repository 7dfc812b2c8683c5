"""A form is read part by part while it arrives, in whatever pieces, with the content of large parts left out."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.form_stream import FormStream, StreamedPart
from ingest.gateway.request.image_parts import MAX_PARTS

BOUNDARY = b"xYz"
LARGE = 1_000


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n", before: bytes = b"") -> bytes:
    head = "Content-Disposition: form-data; name="
    lines = [b'\r\n--xYz\r\n%s"%s"\r\n\r\n%s' % (head.encode(), name.encode(), data) for name, data in parts]
    return before + b"".join(lines)[0 if before else 2 :] + b"\r\n--xYz" + end


async def read(body: bytes, *, cuts: Sequence[int] = (), most_parts: int = 10) -> list[StreamedPart]:
    """Read ``body`` in pieces that end at ``cuts``."""
    ends = [*sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces: Iterator[bytes] = iter([body[start:end] for start, end in zip([0, *ends], ends, strict=False)])

    async def next_piece() -> bytes | None:
        return next(pieces, None)

    stream = FormStream(next_piece, BOUNDARY, most_parts)
    return [part async for part in stream.parts(lambda _: LARGE)]


def contents(parts: Sequence[StreamedPart]) -> list[tuple[str, bytes]]:
    return [(one.part.name, one.part.data) for one in parts]


# What can be confused with a boundary, or with a part of one.
_PIECES = st.sampled_from([b"\r\n", b"--", b"\r\n--xY", b"-", b"xYz", b"\r", b"a", b"\0"])
_DATA = st.lists(_PIECES, max_size=8).map(b"".join).filter(lambda data: b"\r\n--xYz" not in b"\r\n" + data)


@settings(max_examples=100)
@given(st.lists(_DATA, max_size=4), st.lists(st.integers(0, 400), max_size=30), st.booleans())
async def test_parts_are_the_same_however_the_body_is_cut(
    data: list[bytes], cuts: list[int], text_before: bool
) -> None:
    sent = [(f"part-{number}", one) for number, one in enumerate(data)]
    body = form(*sent, before=b"This is a form." if text_before else b"") if sent else b"--xYz--"
    assert contents(await read(body, cuts=cuts)) == sent


async def test_content_of_a_large_part_is_left_out_and_its_size_is_kept() -> None:
    small, large = b"s" * LARGE, b"l" * (LARGE + 1)
    body = form(("a", small), ("b", large), ("c", b"x" * 100_000), ("d", small))
    for cuts in ((), range(0, len(body), 7), range(0, len(body), 1_001)):
        parts = await read(body, cuts=cuts)
        assert [(one.size_bytes, one.too_large) for one in parts] == [
            (LARGE, False),
            (LARGE + 1, True),
            (100_000, True),
            (LARGE, False),
        ]
        assert contents(parts) == [("a", small), ("b", b""), ("c", b""), ("d", small)]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "cut off"),
        (b"no form at all" * 50, "does not have its boundary 'xYz'"),
        (b"--xYz", "cut off"),
        (form(("a", b"1"))[:-7], "cut off"),
        (form(("a", b"1"), end=b"more\r\n"), "longer"),
        (form(*[("a", b"1")] * 11), "more than 10 parts"),
        (b"--xYz\r\n" + b"x: y\r\n" * 9 + b"\r\n\r\n--xYz--", "more than 8 headers"),
        (b"--xYz\r\n" + b"x" * 5_000, "no empty line"),
        (b"--xYz\r\nno colon\r\n\r\n\r\n--xYz--", "must be a name, a colon"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(body: bytes, told: str) -> None:
    for cuts in ((), range(0, len(body), 3)):
        with pytest.raises(ValidationFailedError, match=told):
            await read(body, cuts=cuts)


@settings(max_examples=200)
@given(st.binary(max_size=60) | _DATA, st.integers(0, 300), st.lists(st.integers(0, 400), max_size=10))
async def test_a_damaged_body_gives_the_same_parts_or_error_however_it_is_cut(
    noise: bytes, at: int, cuts: list[int]
) -> None:
    whole = form(("a", b"1\r\n"), ("b", b""), ("c", b"--xYz"))
    for body in (whole[:at] + noise + whole[at:], whole[:at] + noise, noise):
        try:
            expected = contents(await read(body, most_parts=MAX_PARTS))
        except ValidationFailedError as error:
            with pytest.raises(ValidationFailedError) as caught:
                await read(body, cuts=cuts, most_parts=MAX_PARTS)
            assert str(caught.value) == str(error)
        else:
            assert contents(await read(body, cuts=cuts, most_parts=MAX_PARTS)) == expected


async def test_text_behind_the_last_boundary_is_passed_over() -> None:
    body = form(("a", b"1")) + b"--xYz\r\n" * 100
    assert contents(await read(body, cuts=range(0, len(body), 5))) == [("a", b"1")]


async def test_hostile_parts_take_linear_time_and_little_memory() -> None:
    # Nearly a boundary everywhere, in small pieces, in a part that is too large to be kept.
    piece = b"\r\n--xY" * 10_000
    pieces = iter([b'--xYz\r\nContent-Disposition: form-data; name="a"\r\n\r\n', *[piece] * 300, b"\r\n--xYz--"])

    async def next_piece() -> bytes | None:
        return next(pieces, None)

    tracemalloc.start()
    began = time.process_time()
    stream = FormStream(next_piece, BOUNDARY, 10)
    (part,) = [part async for part in stream.parts(lambda _: LARGE)]
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.size_bytes == 300 * len(piece)
    assert peak < 1_000_000
    assert seconds < 2.0
