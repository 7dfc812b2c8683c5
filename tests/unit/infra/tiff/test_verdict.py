"""Checks what is said of a TIFF by its header alone, and that damaged headers raise one error only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import ImageCorruptError
from infra.tiff.directory import Directory, directories
from infra.tiff.layout import layout_of
from infra.tiff.verdict import verdict_of
from tests.tiff_bytes import tiff_bytes

GREY = {256: 40, 257: 30, 258: 8, 262: 1, 278: 30}
RGB = {**GREY, 258: (8, 8, 8), 262: 2, 277: 3}


@pytest.mark.parametrize(
    ("tags", "reader", "words"),
    [
        (GREY, "plain", ""),
        (RGB, "plain", ""),
        ({**GREY, 258: 12}, "plain", ""),
        ({**GREY, 259: 34887}, "geo", "LERC.*pip install -e"),
        ({**RGB, 258: (5, 6, 5)}, "none", "different bits"),
        ({**GREY, 258: 24}, "none", "24 bits"),
        ({**GREY, 258: 64, 339: 6}, "none", "complex"),
        ({**GREY, 262: 32844}, "none", "32844"),
        ({**GREY, 262: 5}, "none", "needs 4"),
        ({**GREY, 262: 5, 277: 5, 258: (8,) * 5, 332: 2}, "none", "inks"),
        ({**GREY, 259: 7, 277: 2, 258: (8, 8)}, "geo", "2 bands"),
        ({**GREY, 259: 5, 258: 4, 317: 2}, "none", "predictor 2"),
        ({**RGB, 259: 4}, "none", "fax"),
        ({**RGB, 262: 6, 530: (2, 2), 532: (15, 235, 128, 240, 128, 240)}, "plain", ""),
        ({**GREY, 256: 20_000, 257: 20_000, 277: 8, 258: (8,) * 8, 278: 20_000}, "geo", "leave bands out"),
    ],
)
def test_verdict_of_names_reader_and_reason(tags: dict[int, int | tuple[int, ...]], reader: str, words: str) -> None:
    verdict = verdict_of(layout_of(tiff_bytes(bytes(9), tags)))
    assert verdict.reader == reader
    assert (verdict.reason == "") == (reader == "plain")

    assert re.search(words, verdict.reason)


@pytest.mark.parametrize("big", [False, True])
def test_layout_of_reads_classic_and_big_files(big: bool) -> None:
    layout = layout_of(tiff_bytes(bytes(3600), RGB, big=big))
    assert (layout.width, layout.height, layout.samples, layout.bits) == (40, 30, 3, 8)
    assert (layout.row_bytes(), layout.decoded_bytes(), layout.chunks) == (120, 3600, 1)
    assert [list(each) for each in layout.places()] == [[16 if big else 8], [3600]]


def test_layout_of_guesses_sizes_that_the_file_leaves_out() -> None:
    data = tiff_bytes(bytes(1200), {**GREY, 278: 15, 273: (8, 608), 279: 0})
    # An entry of type 0 is none.
    at = data.index((279).to_bytes(2, "little") + b"\4\0")
    starts, sizes = layout_of(data[: at + 2] + b"\0\0" + data[at + 4 :]).places()
    assert list(starts) == [8, 608]
    assert sizes[0] == 600
    assert sizes[1] >= 600


def test_directories_follow_pages_and_refuse_circles() -> None:
    first = tiff_bytes(bytes(1200), GREY, following=1)
    second = len(first)
    page = first[1208:]
    whole = tiff_bytes(bytes(1200), GREY, following=second) + page[:-4] + bytes(4)
    assert len(list(directories(whole))) == 2
    with pytest.raises(ImageCorruptError, match="circle"):
        list(directories(tiff_bytes(bytes(1200), GREY, following=1208)))


@settings(max_examples=200, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 400),
)
def test_layout_of_damaged_headers_raises_image_corrupt_error(
    big: bool, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(tiff_bytes(bytes(60), {**RGB, 256: 5, 257: 4, 278: 4}, big=big))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        layout = layout_of(bytes(data[: len(data) - cut % len(data)]))
        verdict_of(layout)
        layout.places()
    except ImageCorruptError:
        return
    assert isinstance(layout.directory, Directory)
