"""Pictures in the store are found by digest, in whatever order they were listed."""

from __future__ import annotations

from hashlib import sha256

import pytest

from sinks.retention.looking.stored import StoredPictures


@pytest.mark.parametrize("is_sorted", [True, False])
def test_pictures_are_found_by_their_digest(is_sorted: bool) -> None:
    digests = [sha256(bytes([number])).hexdigest() for number in range(100)]
    stored = StoredPictures()
    for number, digest in enumerate(sorted(digests) if is_sorted else digests):
        stored.add(digest, float(number))
    order = sorted(digests) if is_sorted else digests
    assert [stored.put_s(digest) for digest in order] == list(map(float, range(100)))
    assert stored.put_s(sha256(b"other").hexdigest()) is None
    assert stored.put_s("f" * 64) is None
    assert len(stored) == 100
