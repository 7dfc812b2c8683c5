"""The disk as it is at a power cut: stored frames are there, and no name has half a picture."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CUTS = 4
WRITER = """
import asyncio, hashlib, os, sys
from itertools import count
from pathlib import Path
from infra.storage.frames.folder import FolderFrameStore

async def main():
    store, numbers = FolderFrameStore(Path(sys.argv[1])), count(int(sys.argv[2]))
    async def put():
        while True:
            data = hashlib.sha256(b"%d" % next(numbers)).digest() * 2_000
            digest = hashlib.sha256(data).hexdigest()
            await store.put(data, sha256=digest, media_type="image/jpeg")
            os.write(1, digest.encode() + b"\\n")
    await asyncio.gather(*(put() for _ in range(16)))

asyncio.run(main())
"""


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    # Whatever the journal has is replayed, as at a start after a power cut.
    found = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"mounting a disk is not allowed here: {found.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def copied_at_a_cut(image: Path, copy: Path, root: Path, start: int) -> list[str]:
    """Write frames, stop everything in the middle, and copy the disk; return the hashes of the frames that were stored.

    What the file system has not written to its disk is not in the copy.
    """
    command = [sys.executable, "-c", WRITER, str(root), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(0.15)
        writer.send_signal(signal.SIGSTOP)
        shutil.copyfile(image, copy)
        writer.kill()
        return [first.decode().strip(), *writer.stdout.read().decode().split()]


@pytest.mark.skipif(shutil.which("mkfs.ext4") is None or os.geteuid() != 0, reason="needs root and mkfs.ext4")
def test_a_power_cut_loses_no_stored_frame_and_leaves_no_half_one(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(96 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(image, tmp_path / "mount") as disk:
        for cut in range(CUTS):
            shutil.rmtree(disk / "frames", ignore_errors=True)
            copy = tmp_path / f"copy-{cut}"
            stored = copied_at_a_cut(image, copy, disk / "frames", cut * 1_000_000)
            assert len(stored) > 10
            with mounted(copy, tmp_path / f"after-{cut}") as after:
                named = {path.stem: path.read_bytes() for path in (after / "frames").glob("??/*.jpg")}
            assert set(stored) <= set(named)
            assert [name for name, data in named.items() if hashlib.sha256(data).hexdigest() != name] == []
