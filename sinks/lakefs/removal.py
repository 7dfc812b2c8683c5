"""Removes frames from the present state of the archive, for retention; earlier commits keep naming them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from uuid import NAMESPACE_URL, uuid5

from infra.texts import counted
from sinks.lakefs.listing import Entry, Listing, drawn_path, read_entries, read_listing
from sinks.lakefs.port import Archive


class ArchivedFrames:
    """Removes frames from an archive; :class:`sinks.retention.port.FrameArchive` has the contract."""

    def __init__(self, make_archive: Callable[[], Archive]) -> None:
        """``make_archive`` makes an archive of its own, because the sink may write to another at the same time."""
        self._make_archive = make_archive

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove the frames at ``paths`` in one commit; those that are not there are no error."""
        if not paths:
            return
        async with self._opened() as archive:
            by_folder: dict[str, set[str]] = {}
            for path in paths:
                folder, _, name = path.rpartition("/")
                by_folder.setdefault(folder, set()).add(name)
            for folder, names in sorted(by_folder.items()):
                await _remove_from_folder(archive, folder, names)
            batch = str(uuid5(NAMESPACE_URL, "\n".join(sorted(paths))))
            message = f"{counted(len(paths), 'image')} removed by retention"
            await archive.commit(batch, message, {"source": "standgale", "removed": str(len(paths))})

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Archive]:
        archive = self._make_archive()
        try:
            await archive.open()
            yield archive
        finally:
            await archive.close()


async def _remove_from_folder(archive: Archive, folder: str, names: Collection[str]) -> None:
    """Take ``names`` out of the listing, then remove the images; after a crash between them both are done again."""
    unused: list[str] = []
    for part in (await read_listing(archive, folder)).parts:
        kept = _without(await read_entries(archive, f"{folder}/{part}"), names)
        if kept is not None:
            unused.append(part)
            await _replace_part(archive, folder, part, kept)
    # Read again: a sink may have listed further images meanwhile.
    listing = await read_listing(archive, folder)
    kept = _without(listing.entries, names)
    if kept is not None:
        changed = Listing(folder, kept, listing.parts)
        await archive.add_document(changed.path, changed.document())
    images = [f"{folder}/{name}" for name in sorted(names)]
    await archive.remove([*images, *map(drawn_path, images), *(f"{folder}/{part}" for part in unused)])


async def _replace_part(archive: Archive, folder: str, part: str, kept: list[Entry]) -> None:
    """Put another part in place of ``part``; a part never changes, so that sinks may keep what they have read."""
    listing = await read_listing(archive, folder)
    place = listing.parts.index(part)
    if kept:
        name, data = listing.new_part(kept)
        await archive.add_document(f"{folder}/{name}", data)
        listing.parts[place] = name
    else:
        del listing.parts[place]
    await archive.add_document(listing.path, listing.document())


def _without(entries: Sequence[Entry], names: Collection[str]) -> list[Entry] | None:
    """Return ``entries`` without those of the files ``names``; None when there are none of them."""
    kept = [entry for entry in entries if entry["file"] not in names]
    return kept if len(kept) < len(entries) else None
