"""Defines the settings of the failure policy: delays, attempts and the limit for dead letters."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.sections import PositiveInt, Section, ShortInterval


class RetrySettings(Section):
    """Says how every consumer retries, and when a failing record becomes a dead letter."""

    section = "retry"

    first_delay_s: ShortInterval = Field(
        default=0.2, description="the pause before the second attempt; it doubles with each attempt"
    )
    max_delay_s: ShortInterval = Field(default=10.0, description="the longest pause")
    record_attempts: PositiveInt = Field(
        default=3, description="attempts before a record that fails while others succeed becomes a dead letter"
    )
    max_dead_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.5,
        description="when more of the last minute's records became dead letters, the consumer holds and is not ready; "
        "1 never holds",
    )
    min_dead: PositiveInt = Field(
        default=20, description="max_dead_share applies from this many dead letters in a minute"
    )

    @model_validator(mode="after")
    def _delays(self) -> Self:
        self.require_at_most("first_delay_s", "max_delay_s")
        return self
