"""Archives as sources: zip and tar, and hostile ones of both."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.replay.errors import SourceError
from ingest.replay.port import Picture
from ingest.replay.settings import ReplaySettings
from ingest.replay.sources import tar_archive
from ingest.replay.sources.tar_archive import TarSource
from ingest.replay.sources.zip_archive import ZipSource
from tests.unit.ingest.replay.items import names, positions, read_all

MOST = 1_000
SIDE = b'{"captured_at": "2026-05-01T12:00:00Z", "altitude_m": 80}'


def make_zip(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_767_225_600
            archive.addfile(entry, io.BytesIO(content))
    return path


def zip_source(path: Path, **settings: object) -> ZipSource:
    return ZipSource(path, ReplaySettings.model_validate(settings), MOST)


def tar_source(path: Path, **settings: object) -> TarSource:
    return TarSource(path, ReplaySettings.model_validate(settings), MOST)


FILES = {"b/2.jpg": b"two", "b/2.jpg.json": SIDE, "a.png": b"a", "c.zip": b"PK", "n.txt": b"x", "../up.jpg": b"u"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
async def test_items_of_archives_keep_their_order_and_continue(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        opened = zip_source(make_zip(path, **FILES))
    else:
        opened = tar_source(make_tar(path, FILES, f"w:{kind[4:]}" if "." in kind else "w"))
    found = await read_all(opened)
    assert list(found) == ["b/2.jpg", "a.png", "c.zip", "../up.jpg"]
    assert found["c.zip"] == "NESTED_ARCHIVE"
    assert found["../up.jpg"] == "UNSAFE_NAME"
    two = found["b/2.jpg"]
    assert isinstance(two, Picture)
    assert (two.image, two.side.captured_at, dict(two.side.camera)) == (
        b"two",
        datetime(2026, 5, 1, 12, tzinfo=UTC),
        {"altitude_m": 80.0},
    )
    places = await positions(opened)
    assert await names(opened, places[0]) == ["a.png", "c.zip", "../up.jpg"]
    totals = await opened.count()
    assert (totals.items, totals.passed_over) == (4, 1)
    await opened.close()


async def test_load_of_a_zip_refuses_encrypted_bombs_and_damage(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{"a.jpg": b"a" * 50, "bomb.jpg": bytes(3_000_000), "c.jpg": b"c" * 50})
    data = bytearray(path.read_bytes())
    first, second = (data.rfind(b"PK\x01\x02", 0, at) for at in (data.rfind(b"bomb.jpg"), data.rfind(b"c.jpg")))
    data[first + 8] |= 1  # encrypted, says the list
    data[data.find(b"c.jpg") + 6] ^= 0xFF
    path.write_bytes(data)
    assert second > 0
    opened = ZipSource(path, ReplaySettings(), 5_000_000)
    found = await read_all(opened)
    assert isinstance(found.pop("a.jpg"), Picture)
    assert found == {"bomb.jpg": "ENCRYPTED", "c.jpg": "CORRUPTED_FILE"}
    opened = ZipSource(make_zip(tmp_path / "y.zip", **{"bomb.jpg": bytes(3_000_000)}), ReplaySettings(), 5_000_000)
    assert await read_all(opened) == {"bomb.jpg": "COMPRESSION_RATIO"}


async def test_load_of_links_in_archives_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        entry = zipfile.ZipInfo("link.jpg")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert await read_all(zip_source(tmp_path / "x.zip")) == {"link.jpg": "LINK"}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("s.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE), ("f.jpg", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    found = await read_all(tar_source(tmp_path / "x.tar"))
    assert found == {"s.jpg": "LINK", "h.jpg": "LINK", "f.jpg": "NOT_A_FILE"}


def test_zip_with_too_many_entries_is_refused_before_its_list_is_read(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{f"{n}.jpg": b"" for n in range(20)})
    with pytest.raises(SourceError, match=r"replay\.max_archive_entries"):
        zip_source(path, max_archive_entries=19)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<HH", 1, 1)  # lies about the number, not about the list's size
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"replay\.max_archive_entries"):
        zip_source(path, max_archive_entries=2)


def test_zip_with_a_wrong_number_of_short_entries_is_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{f"{n}": b"" for n in range(9)})
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<HH", 1, 1)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"replay\.max_archive_entries"):
        zip_source(path, max_archive_entries=8)


async def test_zip_with_the_end_of_a_large_archive_inside_an_entry_is_read(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("n.bin", b"PK\x06\x07" + struct.pack("<IQI", 0, 1 << 40, 1))
        archive.writestr("a.jpg", b"a")
    assert await names(zip_source(path)) == ["a.jpg"]


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"PK\x03\x04" + b"x" * 100, b"no zip" * 20])
def test_zip_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as a zip archive"):
        zip_source(tmp_path / "x.zip")


def test_zip_that_unpacks_to_too_much_is_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{"a.jpg": bytes(1_000), "b.jpg": bytes(1_000)})
    with pytest.raises(SourceError, match=r"replay\.max_archive_bytes"):
        zip_source(path, max_archive_bytes=1_999)


@pytest.mark.parametrize("cut", [600, 1_500, 2_100])
async def test_items_of_a_tar_that_is_cut_off_end_in_an_error(tmp_path, cut):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"a" * 900, "b.jpg": b"b" * 900})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match="damaged"):
        await read_all(tar_source(path))


async def test_items_before_a_cut_of_a_tar_are_read(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"a" * 900, "b.jpg": b"b" * 900})
    path.write_bytes(path.read_bytes()[:2_100])
    opened = tar_source(path)
    with pytest.raises(SourceError, match="damaged or cut off"):
        await read_all(opened)
    assert await _names_before_the_error(opened) == ["a.jpg"]


@pytest.mark.parametrize("damage", ["checksum", "cut"])
async def test_items_of_a_compressed_tar_end_in_an_error_when_its_checksum_is_wrong(tmp_path, damage):
    path = make_tar(tmp_path / "x.tar.gz", {"a.jpg": b"a" * 900}, "w:gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data if damage == "checksum" else data[:-8])
    opened = tar_source(path)
    with pytest.raises(SourceError, match="damaged or cut off"):
        await read_all(opened)
    assert await _names_before_the_error(opened) == ["a.jpg"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_items_of_a_tar_with_more_after_its_end_end_in_an_error(tmp_path, mode):
    first, second = (make_tar(tmp_path / name, {f"{name}.jpg": b"x"}, mode) for name in ("a", "b"))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    opened = tar_source(first)
    with pytest.raises(SourceError, match="but more follows"):
        await read_all(opened)
    assert await _names_before_the_error(opened) == ["a.jpg"]


async def test_item_of_a_tar_with_a_time_that_is_no_number_is_read(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.pax_headers = {"mtime": "nan"}
        archive.addfile(entry, io.BytesIO())
    found = await read_all(tar_source(tmp_path / "x.tar"))
    assert found["a.jpg"].written_at == datetime(1970, 1, 1, tzinfo=UTC)


async def _names_before_the_error(source: TarSource) -> list[str]:
    found = []
    with suppress(SourceError):
        async for item in source.items(None):
            found.append(item.name)  # noqa: PERF401 (the error comes in between)
    return found


async def test_items_of_a_tar_with_a_damaged_header_end_in_an_error(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"})
    data = bytearray(path.read_bytes())
    data[1024 + 10] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged at byte 1,024"):
        await read_all(tar_source(path))


async def test_items_of_a_tar_bomb_end_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_archive, "_RATIO_FROM_BYTES", 100_000)
    bomb = make_tar(tmp_path / "x.tar.gz", {"big.txt": bytes(5_000_000), "a.jpg": b"a"}, "w:gz")
    with pytest.raises(SourceError, match="as a bomb does"):
        await read_all(tar_source(bomb))
    with pytest.raises(SourceError, match=r"replay\.max_archive_bytes"):
        await read_all(tar_source(bomb, max_archive_bytes=1_000_000, max_archive_ratio=1e9))
    with pytest.raises(SourceError, match=r"replay\.max_archive_entries"):
        await read_all(tar_source(make_tar(tmp_path / "y.tar", {"a": b"", "b": b""}), max_archive_entries=1))


async def test_items_of_a_tar_with_a_huge_header_end_in_an_error(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (tmp_path / "x.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2_048))
    with pytest.raises(SourceError, match="header"):
        await read_all(tar_source(tmp_path / "x.tar"))


async def test_items_of_a_tar_in_zstd_end_with_the_command_to_unpack(tmp_path):
    (tmp_path / "x.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(SourceError, match="zstd -d"):
        await read_all(tar_source(tmp_path / "x.tar.zst"))


async def test_items_of_a_tar_that_changed_end_in_an_error(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"a"})
    opened = tar_source(path)
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(SourceError, match="changed"):
        await read_all(opened)
