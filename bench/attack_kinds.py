"""Makes the worst requests that are known, for the benchmark of attacks; each kind once went wrong or could."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

_PATH = "/api/v1/frames?captured_at=2026-05-01T12:00:00Z"
_SIDE = 2_048


@dataclass(frozen=True, slots=True)
class Attack:
    """Is one kind of request: its bytes, and whether the connection is then held open without sending the rest."""

    name: str
    request: bytes
    hold: bool = False


def _post(token: str, body: bytes, kind: str = "image/jpeg", *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {_PATH} HTTP/1.1", "Host: gateway", f"X-API-Token: {token}", f"Content-Type: {kind}", *headers]
    if not any("chunked" in header for header in headers):
        lines.append(f"Content-Length: {size}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _part(name: str, data: bytes, extra: str = "") -> bytes:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data + b"\r\n"


_FORM = "multipart/form-data; boundary=edge"


def _scan_bomb() -> bytes:
    """Return a progressive JPEG of about 590 kB whose scans are repeated: each one passes over all pixels."""
    out = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (90, 120, 60)).save(out, "JPEG", progressive=True, quality=50)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:-2] + scan * max(1, (590_000 - len(data)) // len(scan)) + data[-2:]


def _picture_bomb() -> bytes:
    """Return a PNG of a few hundred kilobytes with the most pixels that are accepted."""
    row = b"\0" + bytes(10_900 * 3)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(10_900)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (10_900).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _long_xmp(frame: bytes) -> bytes:
    """Return the JPEG ``frame`` with as much XMP as is read, in which no value is found."""
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    text = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">&' + b"xmlns:a " * 65_000

    def segment(data: bytes) -> bytes:
        return b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data

    head = b"http://ns.adobe.com/xmp/extension/\0" + guid + len(text).to_bytes(4, "big")
    parts = (segment(head + at.to_bytes(4, "big") + text[at : at + 65_000]) for at in range(0, len(text), 65_000))
    named = segment(b"http://ns.adobe.com/xap/1.0/\0<a>" + guid + b"</a>")
    return frame[:2] + named + b"".join(parts) + frame[2:]


def _noise(size_bytes: int) -> bytes:
    return np.random.default_rng(3).integers(0, 256, size_bytes, dtype=np.uint8).tobytes()


def _forms(token: str, frame: bytes) -> dict[str, bytes]:
    marks = ("\u0316\u0301" * 150_000).encode()[:600_000]
    metadata = b'{"a":' * 1_000 + b"1" + b"}" * 1_000
    end = b"--edge--\r\n"
    flood = _part("image", frame) + b"--edge\r\n\r\n\r\n" * 150_000
    return {
        "file name of 600 kB": _post(token, _part("original_filename", marks) + _part("image", frame) + end, _FORM),
        "deep metadata": _post(token, _part("metadata", metadata) + _part("image", frame) + end, _FORM),
        "form of 150,000 parts": _post(token, flood + end, _FORM),
    }


def attacks(token: str, frame: bytes) -> list[Attack]:
    """Return every kind, with ``token`` and with a picture ``frame`` that is accepted."""
    half_head = f"POST {_PATH} HTTP/1.1\r\nHost: gateway\r\nX-API-Token: {token}\r\n".encode()
    chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in frame[:50_000])
    return [
        Attack("progressive scans", _post(token, _scan_bomb())),
        Attack("picture that unpacks to 356 MB", _post(token, _picture_bomb(), "image/png")),
        *(Attack(name, request) for name, request in _forms(token, frame).items()),
        Attack("head of 1 MB", half_head + b"A: " + b"a" * 1_000_000),
        Attack("30,000 headers", half_head + b"A: 1\r\n" * 30_000),
        Attack("half-sent heads", half_head, hold=True),
        Attack("silent connections", b"", hold=True),
        Attack("slow bodies", _post(token, frame[:1_000], length=len(frame)), hold=True),
        Attack("body in chunks of 1 byte", _post(token, chunked, "image/jpeg", "Transfer-Encoding: chunked")),
        Attack("wrong tokens", _post("stg_0123456789abcdef_wrong", frame)),
        Attack("200 requests ahead", b"GET /api/v1/metrics HTTP/1.1\r\nHost: gateway\r\n\r\n" * 200),
        Attack("metrics", b"GET /api/v1/metrics HTTP/1.1\r\nHost: gateway\r\n\r\n"),
        Attack("API document", b"GET /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n"),
        Attack("10 MB that are no picture", _post(token, b"\xff\xd8\xff" + _noise(9_900_000))),
        Attack("512 kB of XMP", _post(token, _long_xmp(frame))),
        Attack("valid frames", _post(token, frame)),
    ]
