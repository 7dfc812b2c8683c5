"""Changes bytes, text and JSON values at random; the same generator state gives the same change."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Final

import orjson

_NUMBERS: Final = (0, 1, 2, 3, 7, 8, 16, 64, 127, 128, 255, 256, 1_000, 16_383, 16_384, 32_767, 32_768, 65_535,
                   65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1)  # fmt: skip
_FORMS: Final = ("B", "<H", ">H", "<I", ">I")
_LONGEST_RUN: Final = 64
_VALUES: Final = (
    None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 1 << 53, 1 << 63, -(1 << 63), "", "a", "\x00", "é́" * 20, "x" * 300,
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00+14:00", "nan", "1e999", [], {},
    [[]], [None], {"": None}, {"a": {"b": [1]}}, [1] * 50,
)  # fmt: skip


def mutate_bytes(rng: Random, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """Return one of ``seeds`` with one to four changes; ``tokens`` are words that the format knows."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4))):
        change = rng.choice(_CHANGES)
        if tokens and rng.random() < 0.3:
            _insert(rng, data, rng.choice(tokens))
        elif change is _splice:
            other = rng.choice(seeds)
            cut = rng.randrange(len(other) + 1)
            at = rng.randrange(len(data) + 1)
            data[at:] = other[cut:]
        else:
            change(rng, data)
    return bytes(data)


def mutate_json(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the JSON ``seeds`` with one to three values, keys or characters changed."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, seeds, (b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b"1e400", b"null", b","))
    document = orjson.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 3))):
        change_value(rng, document)
    return orjson.dumps(document)


def change_value(rng: Random, node: object) -> None:
    """Replace, remove or add one value somewhere below ``node``, a dict or list, in place."""
    while True:
        if isinstance(node, dict):
            keys: Sequence[object] = list(node)
        elif isinstance(node, list):
            keys = range(len(node))
        else:
            return
        action = rng.random()
        if not keys or action < 0.05:
            value = deepcopy(rng.choice(_VALUES))
            if isinstance(node, dict):
                node[rng.choice(("", "extra", "id", "\x00", "a" * 200))] = value
            else:
                node.append(value)
            return
        key = rng.choice(keys)
        child = node[key]  # type: ignore[index]
        if isinstance(child, dict | list) and child and action < 0.75:
            node = child
        elif action < 0.85:
            node[key] = deepcopy(rng.choice(_VALUES))  # type: ignore[index]
            return
        else:
            del node[key]  # type: ignore[arg-type]
            return


def _flip(rng: Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(rng: Random, data: bytearray) -> None:
    form = rng.choice(_FORMS)
    size = struct.calcsize(form)
    if len(data) >= size:
        value = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
        struct.pack_into(form, data, rng.randrange(len(data) - size + 1), value)


def _early_number(rng: Random, data: bytearray) -> None:
    """Change a number near the start, where headers are."""
    form = rng.choice(_FORMS)
    size = struct.calcsize(form)
    if len(data) >= size:
        at = rng.randrange(min(len(data) - size + 1, 200))
        struct.pack_into(form, data, at, rng.choice(_NUMBERS) & ((1 << 8 * size) - 1))


def _remove(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.randrange(1, _LONGEST_RUN)]


def _repeat(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    run = data[at : at + rng.randrange(1, _LONGEST_RUN)]
    data[at:at] = run * rng.choice((1, 2, 30))


def _insert(rng: Random, data: bytearray, what: bytes | None = None) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 9)) if what is None else what


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _fill(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    count = min(len(data) - at, rng.randrange(1, _LONGEST_RUN))
    data[at : at + count] = bytes((rng.choice((0, 0xFF, 0x7F, 0x20)),)) * count


def _splice(rng: Random, data: bytearray) -> None:
    """Mark the change that joins two seeds; the caller has them."""


_CHANGES: Final[tuple[Callable[[Random, bytearray], None], ...]] = (
    _flip, _flip, _number, _number, _early_number, _early_number, _remove, _repeat, _insert, _cut, _fill, _splice,
)  # fmt: skip
