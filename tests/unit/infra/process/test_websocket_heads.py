"""The heads of WebSocket frames are found however the bytes are cut, and payloads are never taken for heads."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from infra.process.websocket_heads import Head, Heads


def encoded(opcode: int, final: bool, length: int) -> bytes:
    first = opcode | (0x80 if final else 0)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, 0xFE, length)
    else:
        head = struct.pack(">BBQ", first, 0xFF, length)
    return head + b"\x01\x02\x03\x04" + b"\x82" * length


def found(pieces: list[bytes]) -> list[tuple[int, bool, int]]:
    heads, result = Heads(), []
    for piece in pieces:
        at = 0
        while (head := heads.next(piece, at)) is not None:
            result.append((head.opcode, head.final, head.length))
            at = head.end
    return result


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 2, 8, 9, 10]), st.booleans(), st.sampled_from([0, 1, 125, 126, 300, 66_000])),
        max_size=6,
    ),
    st.lists(st.integers(0, 400), max_size=30),
)
def test_heads_are_found_wherever_the_bytes_are_cut(frames: list[tuple[int, bool, int]], cuts: list[int]) -> None:
    data = b"".join(encoded(*frame) for frame in frames)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    assert found([*pieces, data[at:]]) == frames


def test_head_without_a_mask_ends_before_its_payload() -> None:
    assert Heads().next(b"\x82\x03abc", 0) == Head(opcode=2, final=True, length=3, end=2)


def test_payload_that_is_left_is_counted() -> None:
    heads = Heads()
    assert heads.next(encoded(2, True, 300)[:108], 0) is not None
    assert heads.payload_left == 300
    assert heads.next(bytes(100), 0) is None and heads.payload_left == 200
