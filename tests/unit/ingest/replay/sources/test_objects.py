"""The pictures of an object store, in the order of its list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from ingest.replay.port import Picture
from ingest.replay.sources.objects import ObjectSource
from ingest.replay.sources.pairs import Listed
from tests.unit.ingest.replay.items import read_all

SIDE = b'{"captured_at": "2026-05-01T12:00:00Z"}'


class Objects:
    """Lists and reads objects in memory."""

    identity: Mapping[str, str | int | None] = {"kind": "memory"}

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    async def listed(self, after: str | None) -> AsyncIterator[Listed]:
        for key in sorted(self._objects):
            if after is None or key > after:
                yield Listed(key, len(self._objects[key]))

    async def read(self, key: str, most_bytes: int) -> bytes:
        return self._objects[key][:most_bytes]

    async def close(self) -> None: ...


async def test_items_after_a_picture_keep_a_side_file_that_is_listed_before_it() -> None:
    keys = ("d/a.json", "d/a.old.png", "d/a.png", "d/a.tif", "d/b.png")
    source = ObjectSource(Objects(dict.fromkeys(keys, SIDE)), (".png", ".tif"), 1_000)
    whole = await read_all(source)
    for after, left in (("d/a.old.png", keys[2:]), ("d/a.png", keys[3:]), ("d/a.tif", keys[4:])):
        assert await read_all(source, after) == {key: whole[key] for key in left}
    picture = whole["d/a.tif"]
    assert isinstance(picture, Picture)
    assert picture.side.captured_at is not None
