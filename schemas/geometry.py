"""Defines normalised boxes and points in a frame, and the position of the camera."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]

COORDINATE_DECIMALS, CONFIDENCE_DECIMALS = 6, 4
"""The decimals that a detector writes into events. The millionth part of 10,000 pixels is a hundredth of a pixel."""

# A ground sampling distance outside these limits, in metres, comes from wrong fields.
FINEST_GSD_M, COARSEST_GSD_M = 1e-5, 1_000.0
# A camera with a higher pitch sees parts of its frame at several times the distance of other parts. Up to this pitch
# the middle of the frame differs by 1 / cos(30 degrees), 15 %, from that of a camera that looks straight down.
HIGHEST_PITCH_DEG = -60.0


class Box(BaseModel):
    """Describes a box in a frame by two corners, normalised to [0, 1]: x grows to the right, y grows downwards."""

    model_config = ConfigDict(frozen=True)

    x1: Unit
    y1: Unit
    x2: Unit
    y2: Unit

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise ValueError("a box needs x1 <= x2 and y1 <= y2")
        return self


class Point(BaseModel):
    """Describes a point, normalised as boxes are; it may be outside the frame."""

    model_config = ConfigDict(frozen=True)

    x: float
    y: float


class CameraGeometry(BaseModel):
    """Describes where the camera was and looked; all fields are optional, as cameras know different ones."""

    model_config = ConfigDict(frozen=True)

    altitude_m: Annotated[float, Field(ge=-500, le=100_000)] | None = Field(
        default=None, description="Height above the ground (or above the take-off point), metres"
    )
    altitude_msl_m: Annotated[float, Field(ge=-500, le=100_000)] | None = Field(
        default=None, description="Height above mean sea level, metres"
    )
    focal_length_mm: Annotated[float, Field(gt=0, le=5_000)] | None = None
    sensor_width_mm: Annotated[float, Field(gt=0, le=1_000)] | None = None
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    heading_deg: Annotated[float, Field(ge=0, lt=360)] | None = Field(
        default=None, description="Direction the top of the picture points to, degrees clockwise from north"
    )
    pitch_deg: Annotated[float, Field(ge=-90, le=90)] | None = Field(
        default=None, description="Gimbal pitch, degrees; -90 looks straight down"
    )
    gsd_m: Annotated[float, Field(gt=0, le=1_000)] | None = Field(
        default=None, description="Metres on the ground per pixel, where known directly; wins over altitude and lens"
    )

    def ground_sampling_distance_m(self, image_width_px: int) -> float | None:
        """Return metres on the ground per pixel, one number for the whole frame, or None when it is not known.

        Without ``gsd_m``: GSD = altitude · sensor width / (focal length · image width), from similar triangles of the
        pinhole camera, for a camera that looks straight down. None for a camera that looks more than 30 degrees away
        from that, and for a result outside 0.01 mm to 1 km.
        """
        found = self.gsd_m or self._looking_down_m(image_width_px)
        return found if found is not None and FINEST_GSD_M <= found <= COARSEST_GSD_M else None

    def _looking_down_m(self, image_width_px: int) -> float | None:
        altitude, focal, sensor = self.altitude_m, self.focal_length_mm, self.sensor_width_mm
        if altitude is None or focal is None or sensor is None:
            return None
        if self.pitch_deg is not None and self.pitch_deg > HIGHEST_PITCH_DEG:
            return None
        return altitude / image_width_px * (sensor / focal)
