"""Names the XMP properties that Standgale reads, by namespace."""

from __future__ import annotations

import re
from functools import lru_cache

RDF = "rdf"

# A namespace without scheme, www., version and the last slash; makers vary these. Key: the usual prefix.
_NAMESPACES = {
    "dji.com/drone-dji": "drone-dji",
    "skydio.com/drone-skydio": "drone-skydio",
    "parrot.com/drone-parrot": "drone-parrot",
    "pix4d.com/camera": "Camera",
    "pix4d.com": "Camera",
    "camera": "Camera",
    "sensefly": "sensefly",
    "ns.flir.com/xmp": "FLIR",
    "ns.adobe.com/exif": "exif",
    "ns.adobe.com/xap": "xmp",
    "ns.adobe.com/photoshop": "photoshop",
    "w3.org/1999/02/22-rdf-syntax-ns#": RDF,
    "adobe:ns:meta": RDF,
}
_AUTEL = "autelrobotics.com/"
_VARYING = re.compile(r"^(?:https?://)?(?:www\.)?|(?:/\d{1,4}(?:\.\d{1,4}){0,3})?/*$", re.ASCII)
_MAX_URI = 256

_FLIGHT = (
    "AbsoluteAltitude",
    "RelativeAltitude",
    "GimbalYawDegree",
    "GimbalPitchDegree",
    "GimbalRollDegree",
    "FlightYawDegree",
    "GpsLatitude",
    "GpsLongitude",
    # DJI's and Autel's own spelling.
    "GpsLongtitude",
    "UTCAtExposure",
)
_POSE = ("Yaw", "Pitch", "Roll")

STRUCTURES = frozenset({"drone-skydio:CameraOrientationNED"})
"""Properties whose parts are read: `structure/part`."""

WANTED = frozenset(
    {
        *(f"drone-dji:{name}" for name in _FLIGHT),
        *(f"drone:{name}" for name in _FLIGHT),
        *(f"drone-skydio:{name}" for name in ("AbsoluteAltitude", "RelativeAltitude", "Latitude", "Longitude")),
        *(f"drone-skydio:CameraOrientationNED/{name}" for name in _POSE),
        *(f"drone-parrot:{name}" for name in ("CameraYawDegree", "CameraPitchDegree", "RelativeAltitude")),
        *(f"Camera:{name}" for name in (*_POSE, "AboveGroundAltitude", "PerspectiveFocalLength")),
        "Camera:PerspectiveFocalLengthUnits",
        *(f"sensefly:{name}" for name in _POSE),
        "FLIR:MAVRelativeAltitude",
        *(
            f"exif:{name}"
            for name in (
                "DateTimeOriginal",
                "DateTimeDigitized",
                "FocalLength",
                "FocalLengthIn35mmFilm",
                "DigitalZoomRatio",
                "GPSLatitude",
                "GPSLongitude",
                "GPSAltitude",
                "GPSAltitudeRef",
            )
        ),
        "xmp:CreateDate",
        "photoshop:DateCreated",
    }
)
"""The properties that are read, as `prefix:Name` with the usual prefix, whatever the packet binds it to."""

PREFIXES = frozenset(name.partition(":")[0] for name in WANTED)


def usual_prefix(uri: str) -> str | None:
    """Return the usual prefix of a namespace, or None for one that is not read."""
    return _usual_prefix(uri[:_MAX_URI])


@lru_cache(maxsize=256)
def _usual_prefix(uri: str) -> str | None:
    short = _VARYING.sub("", uri.strip().lower())
    return "drone" if short.startswith(_AUTEL) else _NAMESPACES.get(short)
