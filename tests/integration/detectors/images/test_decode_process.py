"""Checks that the separate process gives the pixels of decode_image, and ends what takes too much time or memory."""

from __future__ import annotations

import io
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from detectors.errors import DecoderEndedError, DecoderKilledError, ImageTooCostlyError
from detectors.geometry.arrays import ImageArray
from detectors.images import decode_process
from detectors.images.decode import decode_image
from detectors.images.decode_process import DecodeProcess
from infra.errors import ImageCorruptError
from infra.failure.error_texts import is_transient
from infra.failure.verdicts import fails_by_type
from tests.jpeg_files import noise, scan_bomb

MOST = 10_000_000
# Takes about half a second of CPU time where it is allowed: 24 scans of 1.4 million blocks.
BOMB = scan_bomb(9_600, 9_600, 24)


def lossless(width: int = 60, height: int = 40) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(width, height)).save(out, "WEBP", lossless=True)
    return out.getvalue()


@pytest.fixture
def decoder() -> Iterator[DecodeProcess]:
    made = DecodeProcess(max_pixels=MOST)
    yield made
    made.close()


def test_decode_gives_the_pixels_of_decode_image_in_the_given_memory(decoder: DecodeProcess) -> None:
    memory: list[ImageArray] = []

    def take(size: int) -> ImageArray:
        memory.append(np.empty(size + 99, np.uint8))
        return memory[-1]

    for data in (lossless(), lossless(20, 30)):
        image = decoder.decode(data, take)
        assert np.array_equal(image, decode_image(data, max_pixels=MOST))
        assert np.shares_memory(image, memory[-1])


def test_decode_passes_on_image_corrupt_errors_and_continues(decoder: DecodeProcess) -> None:
    with pytest.raises(ImageCorruptError, match="GIF"):
        decoder.decode(b"GIF89a")
    assert decoder.decode(lossless()).shape == (40, 60, 3)


def test_decode_ends_what_takes_more_cpu_time_and_continues() -> None:
    decoder = DecodeProcess(max_pixels=100_000_000, limit_s=0.2)
    try:
        with pytest.raises(ImageTooCostlyError, match=r"more than 0\.2 s of CPU.*max_decode_s") as caught:
            decoder.decode(BOMB)
        assert fails_by_type(caught.value)
        assert decoder.decode(lossless()).shape == (40, 60, 3)
    finally:
        decoder.close()


def test_decode_of_an_image_after_its_process_was_killed_succeeds(decoder: DecodeProcess) -> None:
    decoder.decode(lossless())
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGKILL)
    assert decoder.decode(lossless()).shape == (40, 60, 3)


def test_decode_raises_decoder_killed_error_when_each_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = DecodeProcess(max_pixels=MOST)
    monkeypatch.setattr(decode_process, "_CODE", "import os; os.read(0, 1); os.kill(os.getpid(), 9)")
    with pytest.raises(DecoderKilledError, match="twice") as caught:
        decoder.decode(lossless())
    # Whether the image or the machine is the cause is decided by the other frames.
    assert not fails_by_type(caught.value)
    assert not is_transient(caught.value)
    monkeypatch.setattr(decode_process, "_CODE", "import os; os.read(0, 1); os.abort()")
    with pytest.raises(ImageCorruptError, match="crashes the decoder"):
        decoder.decode(lossless())
    decoder.close()


def test_close_ends_a_decoding_in_progress() -> None:
    decoder = DecodeProcess(max_pixels=100_000_000, limit_s=60)
    decoder.decode(lossless())
    errors: list[Exception] = []

    def decode() -> None:
        try:
            decoder.decode(scan_bomb(9_600, 9_600, 24))
        except DecoderEndedError as error:
            errors.append(error)

    thread = threading.Thread(target=decode)
    thread.start()
    time.sleep(0.2)
    decoder.close()
    thread.join(5)
    assert [type(error) for error in errors] == [DecoderEndedError]


def test_decode_gives_up_a_process_that_reads_no_more_of_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_process, "_SPARE_S", 0.2)
    monkeypatch.setattr(decode_process, "_WALL_PER_CPU", 0)
    # As a frozen one: it takes what the pipe holds and lives on.
    monkeypatch.setattr(decode_process, "_CODE", "import time; time.sleep(60)")
    decoder = DecodeProcess(max_pixels=MOST)
    started = time.monotonic()
    with pytest.raises(DecoderKilledError):
        decoder.decode(b"x" * 5_000_000)
    assert time.monotonic() - started < 20
    decoder.close()


def test_decode_takes_numbers_of_files_above_1023(decoder: DecodeProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2_000, hard)), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_050)]
    try:
        assert decoder.decode(lossless()).shape == (40, 60, 3)
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
