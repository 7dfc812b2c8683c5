"""I14: a file is examined without reading it into memory, with the same result as its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.images.check import ImageError, ImageInfo, inspect_image
from ingest.images.exif import Capture, read_capture
from ingest.images.mapped import examine_file, map_file
from tests.format_files import FILES
from tests.photographs import LIMITS, SECONDS, exif_block, exif_segment, jpeg, packet, xmp_segment

DRONE = jpeg(exif_segment(exif_block(SECONDS)), xmp_segment(packet('drone-dji:RelativeAltitude="80"')))


def of_bytes(data: bytes) -> tuple[ImageInfo, Capture] | str:
    try:
        info = inspect_image(data, LIMITS)
    except ImageError as error:
        return f"{error.code}: {error}"
    return info, read_capture(data, info)


def of_file(path: Path, data: bytes) -> tuple[ImageInfo, Capture] | str:
    path.write_bytes(data)
    try:
        return examine_file(path, LIMITS)
    except ImageError as error:
        return f"{error.code}: {error}"


@pytest.mark.parametrize("kind", [*FILES, "drone"])
def test_a_file_of_every_format_is_read_as_its_bytes_are(kind: str, tmp_path: Path) -> None:
    data = DRONE if kind == "drone" else FILES[kind]()
    path = tmp_path / "file"
    for cut in (len(data), len(data) - 1, len(data) // 2, 100, 9, 1):
        assert of_file(path, data[:cut]) == of_bytes(data[:cut]), cut


def test_startswith_is_that_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdef")
    mapped, data = map_file(tmp_path / "file"), b"abcdef"
    for prefix in (b"ab", b"cd", b"abcdefg", (b"x", b"cde"), (b"abcd", b"a")):
        for start in (0, 2, 5, 6, 9):
            assert mapped.startswith(prefix, start) == data.startswith(prefix, start), (prefix, start)
            for end in (start, start + 2, start + 6, 99):
                assert mapped.startswith(prefix, start, end) == data.startswith(prefix, start, end)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        map_file(tmp_path / "file")
