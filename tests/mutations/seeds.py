"""Makes the small valid inputs from which mutated ones are made."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import orjson
from PIL import Image

from detectors.card.card import default_card_path
from ingest.images.metadata.xmp_names import WANTED
from schemas.cloudevents import Headers
from schemas.event_base import Event
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured
from standgale.testing.factories import detections_made, frame_captured, out_record
from tests.factories import dead_letter_record, original
from tests.photographs import Value, exif_block, packet

_SIDE = 24
_PICTURES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "RGB", {"restart_marker_blocks": 2}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "1", {}),
    ("PNG", "I;16", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "RGBA", {"compression": "packbits"}),
)


def exif() -> Image.Exif:
    """Return EXIF with a position, times, and a lens."""
    block = Image.Exif()
    block[0x0112], block[0x010F], block[0x0132] = 1, "Maker", "2026:05:01 12:00:00"
    details = block.get_ifd(0x8769)
    details.update(
        {0x9003: "2026:05:01 12:00:00", 0x9291: "123", 0x9011: "+02:00", 0x920A: 8.8, 0xA405: 24, 0xA404: 2.0}
    )
    details.update({0xA20E: 4000.0, 0xA210: 2, 0xA002: 4000})
    gps = block.get_ifd(0x8825)
    gps.update({1: "S", 2: (52.0, 30.0, 12.5), 3: "W", 4: (13.0, 24.0, 1.25), 5: b"\1", 6: 120.5})
    gps.update({7: (10.0, 0.0, 0.0), 16: "T", 17: 270.0, 29: "2026:05:01"})
    return block


def xmp(extra: str = "") -> bytes:
    """Return a packet with the values of a drone, as attributes and elements."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" xmlns:Camera="http://pix4d.com/camera/1.0/" '
        'drone-dji:RelativeAltitude="+80.10" drone-dji:AbsoluteAltitude="+210.5" drone-dji:GimbalPitchDegree="-90.0" '
        'drone-dji:GimbalYawDegree="-12.5" drone-dji:UTCAtExposure="2026-05-01T10:00:00.123" '
        f'Camera:Pitch="0"><drone-dji:FlightYawDegree>+12.0</drone-dji:FlightYawDegree>{extra}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@cache
def makers() -> str:
    """Return the text of a packet with every property that is read, of all namespaces."""
    uris = {
        "drone": "http://www.autelrobotics.com/drone/1.0/",
        "drone-skydio": "https://www.skydio.com/drone-skydio/1.0/",
        "drone-parrot": "http://www.parrot.com/drone-parrot/1.0/",
        "Camera": "http://pix4d.com/camera/1.0/",
        "sensefly": "sensefly/",
        "FLIR": "http://ns.flir.com/xmp/1.0/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    }
    times = {"UTCAtExposure", "DateTimeOriginal", "DateTimeDigitized", "CreateDate", "DateCreated"}
    places = {"exif:GPSLatitude": "33,30.5S", "exif:GPSLongitude": "151,15,3E"}
    elements = ""
    for name in sorted(WANTED):
        outer, _, inner = name.partition("/")
        local = outer.partition(":")[2]
        text = places.get(name, "2026-05-01T12:00:00+02:00" if local in times else "-1250/100")
        prefix = outer.partition(":")[0]
        text = f"<{prefix}:{inner}>{text}</{prefix}:{inner}>" if inner else text
        resource = " rdf:parseType='Resource'" if inner else ""
        elements += f"<{outer}{resource}>{text}</{outer}>"
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in uris.items())
    return packet(declared, elements)


def block_with_packet() -> bytes:
    """Return an EXIF block with all tags that are read, and an XMP packet inside."""
    exif: dict[int, Value] = {0x9003: "2026:05:01 12:00:00", 0x9004: "2026:05:01 12:00:00", 0x9291: "12"}
    exif |= {0x9010: "Z", 0x9011: "-5:00", 0x9012: "+0200", 0x2BC: makers().encode()}
    exif |= {0x920A: 4.5, 0xA405: 25, 0xA404: 2.0, 0xA20E: 300.0, 0xA210: 4, 0xA002: 4000, 0xA003: 3000}
    gps: dict[int, Value] = {
        1: "South",
        2: (-33.0, 30.0, 1.5),
        3: "E",
        4: (151.0, 15.0, 0.0),
        5: b"\1",
        6: 12.5,
        9: "A",
    }
    return exif_block(exif, {**gps, 7: (10.0, 0.0, 0.0), 0x10: "M", 0x11: 12.5, 0x1D: "2026:05:01"})


@cache
def pictures(*kinds: str) -> tuple[bytes, ...]:
    """Return small pictures of ``kinds`` (all without any), with EXIF and XMP where the format has them."""
    shades = np.random.default_rng(7).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    made: list[bytes] = []
    for kind, mode, options in _PICTURES:
        if kinds and kind not in kinds:
            continue
        image = Image.fromarray(shades.astype(np.uint16)[..., 0] * 257) if mode == "I;16" else None
        image = image or Image.fromarray(shades).convert(mode)
        for metadata in ({}, {"exif": exif(), "xmp": xmp()}):
            out = io.BytesIO()
            image.save(out, kind, **options, **(metadata if kind in {"JPEG", "WEBP"} else {}))
            made.append(out.getvalue())
    return tuple(dict.fromkeys(made))


@cache
def events() -> tuple[tuple[type[Event], Headers, bytes], ...]:
    """Return event classes, headers and values of valid records."""
    made: list[tuple[type[Event], Headers, bytes]] = []
    records = (
        (
            FrameCaptured,
            out_record(frame_captured(metadata={"a": [1, {"b": None}]}, camera={"altitude_m": 80.0, "latitude": 1.0})),
        ),
        (DetectionsMade, out_record(detections_made())),
        (DeadLetter, dead_letter_record(original(3))),
    )
    for event, record in records:
        made.append((event, record.headers, record.value or b""))
    return tuple(made)


@cache
def card() -> bytes:
    """Return the card of the shipped model."""
    return default_card_path().read_bytes()


FORM_TYPE = "multipart/form-data; boundary=AaB03x"


@cache
def forms() -> tuple[bytes, ...]:
    """Return multipart bodies with the boundary of ``FORM_TYPE``."""

    def part(name: str, content: bytes, more: str = "") -> bytes:
        return f'--AaB03x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"

    image = part("image", b"\xff\xd8\xff" + bytes(20), '; filename="a b.jpg"')
    fields = {
        "captured_at": b"2026-05-01T12:00:00Z",
        "latitude": b"52.5",
        "longitude": b"13.4",
        "metadata": orjson.dumps({"a": {"b": [1, 2, None, "\u00e9"]}}),
        "original_filename": "../\u00e9\u0301.jpg".encode(),
    }
    texts = b"".join(part(name, value) for name, value in fields.items())
    end = b"--AaB03x--\r\n"
    return (image + texts + end, texts + image + end, image + end)
