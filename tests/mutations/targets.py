"""Names what reads bytes from outside, and feeds each with mutated inputs.

A target passes when it returns or raises one of Standgale's own errors. Everything else is a foreign exception.
"""

from __future__ import annotations

import atexit
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

import orjson
import yaml

from detectors.card.card import parse_card
from detectors.card.onnx_file import read_onnx_file
from detectors.heads.metadata import class_names
from detectors.images.decode import decode_image
from detectors.model.least_confidence import least_confidence
from detectors.rules.rules_file import parse_rules
from infra.errors import ImageCorruptError
from ingest.acceptance.fields import parse_fields
from ingest.gateway.request.pairs import pairs_of
from ingest.images.check import ImageInfo, ImageLimits, inspect_image
from ingest.images.exif import read_capture
from ingest.images.formats.header import Metadata, Span
from schemas.cloudevents import decode
from schemas.errors import StandgaleError
from standgale.testing.graphs import GraphSpec, build
from tests.harnesses.forms import parsed
from tests.mutations import seeds, telemetry
from tests.mutations.mutate import change_value, mutate_bytes, mutate_json

LIMITS: Final = ImageLimits(max_image_bytes=1 << 20, min_side_px=1, max_side_px=16_384, max_pixels=120_000_000)
DECODED_PIXELS: Final = 1_000_000
_MEMORY_WORDS: Final = ("insufficient memory", "out of memory", "failed to allocate", "bad_alloc", "memoryerror")
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class DisagreementError(AssertionError):
    """Two readers of the same bytes found different facts."""


class OverMemoryError(AssertionError):
    """A decoder wanted more memory than an input may take."""


@dataclass(frozen=True, slots=True)
class Target:
    """Describes a target: its share of all inputs (of 1,000), and how one input is made and read."""

    name: str
    share: int
    make: Callable[[Random], bytes]
    read: Callable[[bytes], None]
    most_ms: float
    """The CPU time that one input may take, in milliseconds."""


def _image(kind: str) -> Callable[[Random], bytes]:
    def make(rng: Random) -> bytes:
        data = mutate_bytes(rng, seeds.pictures(kind))
        if kind == "PNG" and data[:8] == _PNG and rng.random() < 0.7:
            data = _with_checksums(data)
        return data

    return make


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG file with right checksums, so that a change is not refused for its checksum alone."""
    fixed, position = bytearray(data), len(_PNG)
    while position + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, position)
        end = position + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[position + 4 : end]))
        position = end + 4
    return bytes(fixed)


def _read_header(data: bytes) -> None:
    info = inspect_image(data, LIMITS)
    if len(data) % 4 == 0:
        # EXIF and XMP have targets of their own, and take most of the time.
        read_capture(data, info)


def _decode(data: bytes) -> None:
    try:
        image = decode_image(data, max_pixels=DECODED_PIXELS)
    except ImageCorruptError as error:
        text = str(error).lower()
        if any(word in text for word in _MEMORY_WORDS):
            raise OverMemoryError(str(error)) from error
        return
    try:
        info = inspect_image(data, LIMITS)
    except StandgaleError:
        return
    if image.shape != (info.height, info.width, 3):
        raise DisagreementError(f"the header gives {info.width}×{info.height}, the pixels {image.shape}")


def _make_exif(rng: Random) -> bytes:
    return mutate_bytes(rng, _exif_seeds())


@cache
def _exif_seeds() -> tuple[bytes, ...]:
    return seeds.exif().tobytes()[6:], seeds.block_with_packet()


def _read_exif(data: bytes) -> None:
    read_capture(data, ImageInfo("image/jpeg", 4000, 3000, len(data), Metadata(exif=[Span(0, len(data))])))


_XMP_TOKENS: Final = (
    b"<", b">", b"&", b"&amp;", b"&#0;", b"&#x41;", b'"', b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<![CDATA[",
    b"]]>", b"</x:xmpmeta>", b"<rdf:RDF>",
    b'xmlns:a="http://www.dji.com/drone-dji/1.0/"', b"\x00", b"\xff", b"1e999", b"nan",
    b"+-", b"/0", b"24:00:00", b"-12:00", b"<!--",
)  # fmt: skip


def _make_xmp(rng: Random) -> bytes:
    return mutate_bytes(rng, (seeds.xmp(), seeds.makers().encode(), seeds.makers().encode("utf-16")), _XMP_TOKENS)


def _read_xmp(data: bytes) -> None:
    half = len(data) // 2
    whole, parts = [Span(0, len(data))], [Span(0, half), Span(half, len(data))]
    metadata = Metadata(xmp=whole, extended_xmp=parts if data[-1:] == b"\0" else [])
    read_capture(data, ImageInfo("image/jpeg", 4000, 3000, len(data), metadata))


_FORM_TOKENS: Final = (
    b"--AaB03x", b"\r\n", b"--", b"\r\n\r\n", b'; name="image"', b'; filename="a"', b";;;", b'="',
    b"Content-Type: a\r\n", b"; filename*=utf-8''%ff", b"\x00", b"captured_at", b"\xcc\x81" * 40,
)  # fmt: skip


def _make_form(rng: Random) -> bytes:
    return mutate_bytes(rng, seeds.forms(), _FORM_TOKENS)


def _read_form(data: bytes) -> None:
    form = parsed(data, seeds.FORM_TYPE, 16_384)
    parse_fields(form.fields, 16_384)


_QUERY: Final = (
    b"captured_at=2026-05-01T12%3A00%3A00Z&latitude=52.5&longitude=13.4&metadata=%7B%22a%22%3A1%7D&device_id=d",
    b"gsd_m=0.05&altitude_m=80&original_filename=a%CC%81.jpg&heading_deg=359.9",
    b"device_id=d\nx-standgale-captured-at: 2026-05-01T12:00:00+02:00\nx-standgale-original-filename: a.jpg\naccept: b",
)


def _make_query(rng: Random) -> bytes:
    return mutate_bytes(
        rng, _QUERY, (b"&", b"=", b"%", b"%FF", b"%00", b"+", b"1e999", b"-", b"\xff", b"\nx-standgale-")
    )


def _read_query(data: bytes) -> None:
    query, *lines = data.split(b"\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    parse_fields(pairs_of(query, headers), 16_384)


def _make_event(rng: Random) -> bytes:
    place = rng.randrange(len(seeds.events()))
    _, headers, value = seeds.events()[place]
    texts = [[name, text.decode("latin-1")] for name, text in headers]
    if rng.random() < 0.3:
        one = rng.choice(texts)
        one[1] = mutate_bytes(rng, (one[1].encode("latin-1"),)).decode("latin-1")
    else:
        value = mutate_json(rng, (value,))
    return json.dumps([place, texts, value.decode("latin-1")]).encode()


def _read_event(data: bytes) -> None:
    place, texts, value = orjson.loads(data)
    headers = tuple((name, text.encode("latin-1")) for name, text in texts)
    decode(headers, value.encode("latin-1"), seeds.events()[place][0])


_CARD_TOKENS: Final = (
    b"&a ", b"*a", b"!!python/object:os.system ", b"? ", b"- ", b": ", b"{", b"[", b"\t", b"|\n", b"\x00",
    b"2026-01-01", b"1e999", b".nan", b"0x1F", b"<<: *a", b"%YAML 3.0\n", b"---\n", b"\xff\xfe",
)  # fmt: skip


@cache
def _card_seeds() -> tuple[bytes, tuple[bytes, ...]]:
    document = yaml.safe_load(seeds.card())
    document.pop("evaluated", None)
    document["classes"] = document["classes"][:2]
    short = yaml.safe_dump(document).encode()
    return orjson.dumps(document), (short,)


def _make_card(rng: Random) -> bytes:
    as_json, short = _card_seeds()
    if rng.random() < 0.5:
        return mutate_bytes(rng, short, _CARD_TOKENS)
    document = orjson.loads(as_json)
    for _ in range(rng.choice((1, 2))):
        change_value(rng, document)
    return orjson.dumps(document)


def _read_card(data: bytes) -> None:
    parse_card(data, "a mutated card")


@cache
def _onnx_seeds() -> tuple[bytes, ...]:
    """Small detectors; one scales its pixels itself, one has names of classes."""
    specs = (
        GraphSpec(kind="uint8", scales_itself=True, mean=0.4, std=0.3, width=64, height=64),
        GraphSpec("rtdetr", metadata={"names": '{"0": "red"}', "args": "{'nms': True}"}, width=64, height=64),
    )
    return tuple(build(spec) for spec in specs)


def _make_onnx(rng: Random) -> bytes:
    return mutate_bytes(rng, _onnx_seeds(), (b"\xff" * 9 + b"\x01", b"\x3a\x80\x80\x04", b"location", b"../up"))


@cache
def _onnx_path() -> Path:
    """Return the file of this process that every mutated model is written into."""
    folder = Path(tempfile.mkdtemp(prefix="standgale-mutations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "model.onnx"


def _read_onnx(data: bytes) -> None:
    path = _onnx_path()
    path.write_bytes(data)
    about = read_onnx_file(path)
    class_names(about.metadata)
    least_confidence(about)


_RULES: Final = (
    b"rule(small, D, drop) :- label(D, cow), length_m(D, L), L < 0.4.\n",
    b"% \xc3\xa4\nrule('a b', D, relabel(calf)) :- aggregate_all(count, (near_m(D, E, 3), label(E, cow)), 2).\n",
    b"night :- time(H, _, _), ( H >= 20 ; H < 5 -> true ), \\+ place(_, 0'a).\nrule(n, _, drop) :- night.\n",
)
_RULES_TOKENS: Final = (
    *(b"(", b")", b"[", b"]", b"|", b",", b".", b". ", b"'", b'"', b"`", b"%", b"/*", b"*/", b":-", b"-", b"0'", b"0x"),
    *(b"\\", b"\\x", b"_", b"1e999", b"9" * 99, b"call(", b"maplist(", b"X^", b"\x00", b"\xff", b"\xe2\x80\xa8"),
)


def _make_rules(rng: Random) -> bytes:
    return mutate_bytes(rng, _RULES, _RULES_TOKENS)


def _read_rules(data: bytes) -> None:
    parse_rules(data, "mutated.pl", ("cow", "sheep"))


TARGETS: Final = (
    Target("jpeg header", 130, _image("JPEG"), _read_header, 20),
    Target("png header", 120, _image("PNG"), _read_header, 20),
    Target("webp header", 110, _image("WEBP"), _read_header, 20),
    Target("tiff header", 110, _image("TIFF"), _read_header, 20),
    Target("exif", 125, _make_exif, _read_exif, 20),
    Target("xmp", 70, _make_xmp, _read_xmp, 20),
    Target("multipart", 100, _make_form, _read_form, 20),
    Target("query and headers", 70, _make_query, _read_query, 20),
    Target("events", 90, _make_event, _read_event, 20),
    Target("model cards", 5, _make_card, _read_card, 200),
    Target("rules", 30, _make_rules, _read_rules, 200),
    Target("onnx files", 5, _make_onnx, _read_onnx, 500),
    Target("jpeg decoder", 25, _image("JPEG"), _decode, 200),
    Target("png decoder", 20, _image("PNG"), _decode, 200),
    Target("webp decoder", 15, _image("WEBP"), _decode, 200),
    Target("tiff decoder", 10, _image("TIFF"), _decode, 200),
    Target("srt", 30, telemetry.make_srt, telemetry.read_srt_bytes, 20),
    Target("klv", 30, telemetry.make_klv, telemetry.read_klv_bytes, 20),
    Target("gpmf", 30, telemetry.make_gpmf, telemetry.read_gpmf_bytes, 20),
)
PARTS: Final = sum(target.share for target in TARGETS)


@cache
def _places() -> tuple[int, ...]:
    """Return the target of each input of ``PARTS``, mixed, so that any short run has all of them."""
    places = [place for place, target in enumerate(TARGETS) for _ in range(target.share)]
    Random(PARTS).shuffle(places)
    return tuple(places)


def target_of(number: int) -> Target:
    """Return the target of input ``number``."""
    return TARGETS[_places()[number % PARTS]]


def make_input(rng: Random, seed: int, number: int) -> tuple[Target, bytes]:
    """Return the target and the bytes of input ``number`` of ``seed``; ``rng`` is any generator, set anew."""
    rng.seed((seed << 48) | number)
    target = target_of(number)
    return target, target.make(rng)
