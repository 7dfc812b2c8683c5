"""Makes small videos for tests, with telemetry beside their pictures where asked."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ingest.video.telemetry.klv import UNIVERSAL_KEY

SIZE = (320, 240)
"""Width and height"""
_CLOCK = Fraction(1, 90_000)


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the picture ``number``, uint8 (h, w, 3) RGB: grey, brighter with each number, with a red corner."""
    width, height = size
    image = np.full((height, width, 3), 40 + number % 100, np.uint8)
    image[: height // 4, : width // 4] = (200, 30, 30)
    return image


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    keys: int = 10,
    klv: Sequence[tuple[float, bytes]] = (),
) -> Path:
    """Write a video with a frame at each of ``times_s``, and the packets ``klv`` (time, bytes) in a track beside it."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=25, options=options or {"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        # AVI has no times but the numbers of its frames.
        stream.codec_context.time_base = stream.time_base = Fraction(1, 25) if path.suffix == ".avi" else _CLOCK
        stream.codec_context.gop_size = keys
        data = container.add_data_stream("klv") if klv else None
        base = stream.codec_context.time_base
        waiting = list(klv)
        for number, time_s in enumerate(times_s):
            while data is not None and waiting and waiting[0][0] <= time_s:
                at, packet_bytes = waiting.pop(0)
                packet = av.Packet(packet_bytes)
                packet.stream, packet.time_base = data, _CLOCK
                packet.pts = packet.dts = round(at / _CLOCK)
                container.mux(packet)
            frame = av.VideoFrame.from_ndarray(scene(number, size), format="rgb24")
            frame.pts, frame.time_base = round(time_s / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def steady(count: int, rate: float = 25.0) -> list[float]:
    """Return the times of ``count`` frames at a constant rate."""
    return [number / rate for number in range(count)]


def turned(path: Path, degrees: int) -> Path:
    """Write into the MP4 at ``path`` that its picture is to be shown turned by ``degrees`` (90 or 180) clockwise."""
    one = 0x10000
    rows = {90: (0, one, 0, -one, 0, 0), 180: (-one, 0, 0, 0, -one, 0)}[degrees]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in rows)
    content = bytearray(path.read_bytes())
    # The matrix of version 0 begins 40 bytes after the version.
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + len(matrix)] = matrix
    path.write_bytes(content)
    return path


def klv_packet(items: dict[int, bytes], *, checksum: int | None = None) -> bytes:
    """Return a MISB ST 0601 packet with ``items`` and a right checksum, or the one given."""
    body = b"".join(bytes([tag, len(value)]) + value for tag, value in items.items())
    head = UNIVERSAL_KEY + b"\x82" + (len(body) + 4).to_bytes(2, "big") + body + b"\x01\x02"
    total = sum(byte << (8 if index % 2 == 0 else 0) for index, byte in enumerate(head)) & 0xFFFF
    return head + (total if checksum is None else checksum).to_bytes(2, "big")


def signed(value: float, most: float, size: int = 4) -> bytes:
    """Return ``value`` of -most to most as MISB writes it."""
    return round(value / most * (2 ** (8 * size - 1) - 1)).to_bytes(size, "big", signed=True)


def unsigned(value: float, low: float, high: float, size: int = 2) -> bytes:
    """Return ``value`` of low to high as MISB writes it."""
    return round((value - low) / (high - low) * (2 ** (8 * size) - 1)).to_bytes(size, "big")


def gpmf(key: str, kind: str, size: int, count: int, content: bytes) -> bytes:
    """Return one GPMF element; kind "" holds others."""
    code = ord(kind) if kind else 0
    return key.encode() + bytes([code, size]) + count.to_bytes(2, "big") + content + b"\0" * (-len(content) % 4)


def gpmf_nested(key: str, *parts: bytes) -> bytes:
    """Return an element that holds ``parts``."""
    content = b"".join(parts)
    return gpmf(key, "", 1, len(content), content)


def h264_frames(count: int) -> list[bytes]:
    """Return encoded frames as a camera sends them, with a key frame and its parameters each ten."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base, encoder.gop_size = "yuv420p", Fraction(1, 25), 10
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    packets: list[bytes] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
        frame.pts = number
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets + [bytes(packet) for packet in encoder.encode(None)]
