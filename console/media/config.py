"""Defines what a client may ask of a medium: where its bytes are, the detectors' options, and which frames."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from console.jobs.config import Asked, Model
from console.jobs.faults import config_error
from infra.storable import StorableText
from ingest.video.options import Selection, SelectionMode
from schemas.events import DetectOptions

_MOST_BYTES = 20_000


def _address(text: str) -> str:
    """Return ``text`` if it is an address that can be fetched; where it leads is checked when it is."""
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("it holds a space or a control character")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError("it must be an address such as https://example.org/clip.mp4") from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("it must be an address such as https://example.org/clip.mp4")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must hold no user and no password")
    return text


class MediaOptions(DetectOptions):
    """Holds the options of the detectors; what is left out, the model's card decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[StorableText, Field(min_length=1, max_length=1_000)] | None = None


class Sampling(Asked):
    """Says which frames of a video are detected."""

    mode: Literal["every", "nth", "rate", "key", "scene"] = "every"
    every: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """nth: the first frame, and then each one after so many"""
    per_second: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    """rate: the most frames in a second of the video"""
    change: Annotated[float, Field(gt=0, le=1)] = 0.08
    """scene: the least difference from the frame before it, 0 (none) to 1 (black to white)"""

    def selection(self) -> Selection:
        """Return it for the reader of videos."""
        mode: SelectionMode = self.mode
        return Selection(mode, self.every, self.per_second, self.change)


class MediaConfig(Asked):
    """Holds what is asked of a medium, as its row keeps it."""

    options: MediaOptions = MediaOptions()
    model: Model | None = None
    """A version in the model store; else the one that is active"""
    sampling: Sampling = Sampling()


class MediaRequest(MediaConfig):
    """Is the body of a request without the bytes of its medium."""

    source: Annotated[StorableText, Field(max_length=2_000), AfterValidator(_address)] | None = None
    """Where the bytes are; else the Annotations service has them"""

    @property
    def config(self) -> MediaConfig:
        """Return what is kept of it."""
        return MediaConfig(options=self.options, model=self.model, sampling=self.sampling)


class _TooLong(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)
    config: Annotated[str, Field(max_length=_MOST_BYTES)]


def read_request(text: str | bytes) -> MediaRequest:
    """Return the request in JSON ``text``; an empty one asks for nothing special. Raises InvalidConfigError."""
    try:
        if len(text) > _MOST_BYTES:
            _TooLong(config="x" * (_MOST_BYTES + 1))
        return MediaRequest.model_validate_json(text or "{}")
    except ValidationError as error:
        raise config_error([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from error
