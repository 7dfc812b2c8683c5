"""Reads whole forms with one image, without an event loop."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.gateway.request.one_image import Form, read_form


def parsed(
    body: bytes,
    content_type: str,
    max_metadata_bytes: int,
    *,
    max_image_bytes: int = 20_000_000,
    also: Iterable[str] = (),
) -> Form:
    """Return the form ``body``, which arrives in two pieces."""
    return parsed_pieces(
        (body[: len(body) // 2], body[len(body) // 2 :]), content_type, max_metadata_bytes, max_image_bytes, also
    )


def parsed_pieces(
    pieces: Iterable[bytes],
    content_type: str,
    max_metadata_bytes: int,
    max_image_bytes: int = 20_000_000,
    also: Iterable[str] = (),
) -> Form:
    """Return the form that arrives in ``pieces``."""
    left = iter(pieces)

    async def next_piece() -> bytes | None:
        return next(left, None)

    reading = read_form(
        next_piece, content_type, max_image_bytes=max_image_bytes, max_metadata_bytes=max_metadata_bytes, also=also
    )
    try:
        reading.send(None)
    except StopIteration as end:
        form: Form = end.value
        return form
    raise AssertionError("the form waits for something else than its pieces")
