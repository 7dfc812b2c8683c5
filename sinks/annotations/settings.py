"""Defines the settings of the sink that posts to the Annotations service."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import Section, ShortInterval

_Seconds = Annotated[float, Field(ge=0.05, le=3_600)]
_MOST_BYTES = 1_000_000_000
"""Of pictures at the same time; each takes about four times as much while it is posted"""
_Patience = Annotated[float, Field(ge=0, le=604_800)]


class AnnotationsSettings(Section):
    """Says how what is found in media is posted; the address is `media.annotations_url`."""

    section = "annotations"

    timeout_s: _Seconds = Field(default=15.0, description="the time limit for one post, with its response")
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4, description="how many posts one process makes at the same time; each holds one picture in memory"
    )
    image: bool = Field(default=True, description="whether posts have the picture of the frame, in base64")
    max_image_bytes: Annotated[int, Field(ge=1_024, le=100_000_000)] = Field(
        default=10_000_000, description="the largest picture that is posted; larger ones are left out"
    )
    retry_s: _Patience = Field(
        default=120.0,
        description="how long a post is tried again that fails (5xx, no response in time) while others are taken; then "
        "it is a dead letter",
    )
    give_up_s: _Patience = Field(
        default=3_600.0,
        description="how long a post is tried again that fails while no other is taken; then it is a dead letter. "
        "While the service cannot be connected to, nothing is given up",
    )
    token: SecretStr | None = Field(
        default=None,
        description="a token of your own, with which dead letters are posted after the caller's token was forgotten",
    )
    store_interval_s: ShortInterval = Field(
        default=1.0, description="how often annotations that came back are written to data_annotations"
    )

    @model_validator(mode="after")
    def _patience(self) -> Self:
        self.require_at_most("retry_s", "give_up_s")
        return self

    @model_validator(mode="after")
    def _memory(self) -> Self:
        at_once = self.concurrency * self.max_image_bytes
        if self.image and at_once > _MOST_BYTES:
            raise ValueError(
                f"{self.named('concurrency', 'max_image_bytes')}: together they allow {at_once:,} bytes of pictures at "
                f"the same time, and at most {_MOST_BYTES:,} are possible; lower one of them"
            )
        return self
