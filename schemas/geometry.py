"""Where things are: normalised boxes in a frame, and where the camera was."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]

COORDINATE_DECIMALS, CONFIDENCE_DECIMALS = 6, 4
"""The decimals that a detector writes into events. The millionth part of 10,000 pixels is a hundredth of a pixel."""

# A ground sampling distance finer or coarser than these, metres, comes from fields that are wrong.
FINEST_GSD_M, COARSEST_GSD_M = 1e-5, 1_000.0
# A camera that looks further up than this sees some of its frame at several times the distance of the rest. Up to here
# the middle of the frame differs by 1 / cos(30 degrees), 15 %, from what a camera looking straight down has.
HIGHEST_PITCH_DEG = -60.0


class Box(BaseModel):
    """A box in a frame, corners normalised to [0, 1]: x grows to the right, y grows downwards."""

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
    """A point of a frame, normalised as boxes are; it may lie beyond the frame's edges."""

    model_config = ConfigDict(frozen=True)

    x: float
    y: float


class CameraGeometry(BaseModel):
    """Where the camera was and how it looked; every field is optional because every camera tells something else."""

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
        default=None, description="Metres on the ground per pixel, where known outright; comes before altitude and lens"
    )

    def ground_sampling_distance_m(self, image_width_px: int) -> float | None:
        """Metres on the ground per pixel, or None when the geometry does not tell: one number for all of the frame.

        Where it is not given outright: GSD = altitude · sensor width / (focal length · image width), from similar
        triangles of the pinhole camera, for one that looks straight down. None for one known to look more than 30
        degrees away from that, and for a distance that none can have (0.01 mm to 1 km).
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
