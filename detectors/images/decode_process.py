"""Decodes pictures of unknown cost in a separate process, with a bound of CPU time and memory for each."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from detectors.errors import DecoderEndedError, DecoderKilledError, ImageTooCostlyError
from detectors.geometry.arrays import ImageArray
from detectors.images.decode_frames import TOO_COSTLY, Request, read_reply, write_request
from infra.errors import ImageCorruptError

logger = logging.getLogger(__name__)

DEFAULT_LIMIT_S: Final = 20.0
_CRASHES: Final = {-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)}
# A process that gets no CPU time is no picture's fault; one that gets none for so long is ended all the same.
_WALL_PER_CPU: Final = 10
_SPARE_S: Final = 30.0
_ATTEMPTS: Final = 2
_CODE: Final = "import sys; sys.path = {path!r}; from detectors.images.decode_child import main; main()"


class DecodeProcess:
    """Decodes one picture at a time; the process is started for the first, and again after it was ended.

    Any thread may call it. A process may be ended at any time without harm: it holds nothing but the picture.
    """

    def __init__(self, *, max_pixels: int, limit_s: float = DEFAULT_LIMIT_S) -> None:
        """``limit_s``: the CPU time that one picture may take."""
        self._max_pixels = max_pixels
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def decode(self, data: bytes, memory: Callable[[int], ImageArray] | None = None) -> ImageArray:
        """Decode ``data`` as ``decode_image`` does; ``memory`` gives the buffer of the pixels.

        Raises ImageCorruptError; ImageTooCostlyError when it takes more CPU time or memory than a picture may;
        DecoderKilledError when the process was ended from outside, and DecoderEndedError when it was closed.
        """
        with self._lock:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._decode(data, memory or _new_memory)
                except EOFError:
                    self._raise_for(self._end(), last=attempt == _ATTEMPTS - 1)
        raise AssertionError  # the last attempt raises

    def stop(self) -> None:
        """End the process without waiting; a decoding in progress, and each later one, fails with DecoderEndedError."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Stop, and wait until the process has ended."""
        self.stop()
        with self._lock:
            if self._process is not None:
                self._end()

    def _is_closed(self) -> bool:
        """Whether another thread has closed it meanwhile."""
        return self._closed

    def _decode(self, data: bytes, memory: Callable[[int], ImageArray]) -> ImageArray:
        talk = _Patient(self._running(), self._limit_s * _WALL_PER_CPU + _SPARE_S)
        write_request(talk, Request(data, self._max_pixels, self._limit_s))
        reply = read_reply(talk, memory)
        if reply.image is not None:
            return reply.image
        if reply.kind == TOO_COSTLY:
            raise ImageTooCostlyError(
                f"decoding the image needs more memory than an image of its size may take ({reply.text}); save it "
                "again as JPEG or PNG"
            )
        raise ImageCorruptError(reply.text)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise DecoderEndedError("the decoder was closed, because this worker ends")
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and code)
                [sys.executable, "-P", "-c", _CODE.format(path=sys.path)],
                # A buffer would be flushed when a pipe is closed, and wait for a process that reads nothing.
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Numbers of threads of libraries: one picture is decoded by one thread.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "GDAL_NUM_THREADS": "1"},
            )
            if self._is_closed():
                self._process.kill()
        return self._process

    def _end(self) -> int:
        """End the process, if it still runs, and return its status."""
        process, self._process = self._process, None
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its end of a pipe is closed, so it is about to end.
            return process.wait(1.0)
        process.kill()
        return process.wait()

    def _raise_for(self, status: int, *, last: bool) -> None:
        """Raise the error that the ``status`` of the ended process means; return where another attempt may help."""
        if status == -signal.SIGPROF:
            logger.warning("an image was given up: decoding it took more than %g s of CPU time", self._limit_s)
            raise ImageTooCostlyError(
                f"decoding the image took more than {self._limit_s:g} s of CPU time and was ended "
                "(detector.max_decode_s); save it again as JPEG or PNG, or raise the setting for very large images"
            )
        if self._closed:
            raise DecoderEndedError("the decoder was closed, because this worker ends")
        if not last:
            return
        if status in _CRASHES:
            raise ImageCorruptError(
                f"the image crashes the decoder, twice ({signal.Signals(-status).name}); the file is damaged"
            )
        raise DecoderKilledError(
            f"the process that decodes images was ended from outside, twice (status {status}); if that continues, give "
            "the machine more memory"
        )


class _Patient:
    """Writes requests to ``process`` and reads its replies, and ends it when both take longer than ``limit_s``.

    A process that is frozen, or gets no CPU time, takes no bytes of a request either: pipes hold a few kilobytes.
    """

    def __init__(self, process: subprocess.Popen[bytes], limit_s: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._to, self._from = process, process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._to, False)
        self._deadline = time.monotonic() + limit_s

    def write(self, data: bytes, /) -> None:
        """See :class:`detectors.images.decode_frames.Writable`. Raises EOFError when the process reads no more."""
        left = memoryview(data)
        while left:
            self._wait(self._to, select.POLLOUT)
            try:
                left = left[os.write(self._to, left) :]
            except BrokenPipeError as error:
                raise EOFError from error

    def readinto(self, buffer: memoryview, /) -> int | None:
        """See :class:`detectors.images.decode_frames.Readable`."""
        self._wait(self._from, select.POLLIN)
        return os.readv(self._from, [buffer])

    def _wait(self, pipe: int, event: int) -> None:
        """Wait until ``pipe`` is ready or closed; end the process and raise EOFError when that takes too long."""
        # Not select(), which takes no numbers of files above 1023.
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            self._process.kill()
            raise EOFError


def _new_memory(size: int) -> ImageArray:
    return np.empty(size, np.uint8)
