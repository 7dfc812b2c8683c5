"""Computes the partition of a key with murmur2, as Kafka's default partitioner does, for every adapter.

Because both adapters use this function, a device's frames and detections events have the same partition number
everywhere, and other Kafka clients with default settings write a key's records to the same partition.
"""

from __future__ import annotations

from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


def _murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of ``data`` with Kafka's seed (Austin Appleby, public domain algorithm)."""
    length = len(data)
    state = (_SEED ^ length) & _MASK
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MIX & _MASK
        word = (word ^ (word >> 24)) * _MIX & _MASK
        state = (state * _MIX & _MASK) ^ word
    if whole != length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MIX & _MASK
    state = (state ^ (state >> 13)) * _MIX & _MASK
    return state ^ (state >> 15)


@lru_cache(maxsize=65_536)
def partition_for(key: str, partitions: int) -> int:
    """Return the partition number, 0 to ``partitions`` - 1, of ``key``."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions
