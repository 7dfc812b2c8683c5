"""Decodes pictures inside the separate process; the system ends it when one takes too much CPU time."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from detectors.images.decode import decode_image, image_size
from detectors.images.decode_frames import (
    CORRUPT,
    PIXELS,
    TOO_COSTLY,
    Request,
    read_request,
    write_reply,
)
from infra.errors import ImageCorruptError

# 16 bits in four channels (8 bytes), as they are unpacked and as they are put together, beside the result.
_BYTES_PER_PIXEL: Final = 24
_SPARE_BYTES: Final = 256 << 20
# About the longest time that a timer takes.
_LONGEST_S: Final = 1e9
_SHORT_OF_MEMORY: Final = ("insufficient memory", "bad_alloc", "out of memory", "memoryerror", "cannot allocate")


def main() -> None:
    """Answer requests from standard input until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # They reach the whole group of processes; this one ends when its parent closes the pipe.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # Libraries may write to standard output.
    os.dup2(2, 1)
    # A core file of every bomb would fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(requests, replies, _limit_memory)


def serve(requests: BinaryIO, replies: BinaryIO, limit_memory: Callable[[int], None]) -> None:
    """Answer each request from ``requests`` on ``replies``; ``limit_memory`` gets the pixels of each picture."""
    while (request := read_request(requests)) is not None:
        _answer(request, replies, limit_memory)


def _answer(request: Request, replies: BinaryIO, limit_memory: Callable[[int], None]) -> None:
    signal.setitimer(signal.ITIMER_PROF, min(request.limit_s, _LONGEST_S))
    try:
        width, height = image_size(request.data)
        limit_memory(min(width * height, request.max_pixels))
        image = decode_image(request.data, max_pixels=request.max_pixels)
    except ImageCorruptError as error:
        text = str(error)
        short = any(word in text.lower() for word in _SHORT_OF_MEMORY)
        write_reply(replies, TOO_COSTLY if short else CORRUPT, text=text)
    except MemoryError:
        write_reply(replies, TOO_COSTLY, text="out of memory")
    else:
        write_reply(replies, PIXELS, image=image)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(pixels: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + pixels * _BYTES_PER_PIXEL + _SPARE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
