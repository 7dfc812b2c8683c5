"""Where things are: normalised boxes in a frame, and where the camera was."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


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
        """Metres on the ground per pixel for a camera looking straight down, or None when the geometry is not known.

        Where it is not given outright: GSD = altitude · sensor width / (focal length · image
        width), from similar triangles of the pinhole camera.
        """
        if self.gsd_m is not None:
            return self.gsd_m
        if self.altitude_m is None or self.focal_length_mm is None or self.sensor_width_mm is None:
            return None
        if self.altitude_m <= 0:
            return None
        return self.altitude_m * self.sensor_width_mm / (self.focal_length_mm * image_width_px)
