"""Defines the settings of the consumer loop: the size of a batch, and how long it waits."""

from __future__ import annotations

from pydantic import Field

from infra.sections import PositiveInt, PositiveSize, Seconds, Section


class BatchSettings(Section):
    """Says how a consumer reads batches."""

    batch_records: PositiveInt = Field(default=500, description="the most records of one batch")
    batch_bytes: PositiveSize = Field(default=16_000_000, description="about the most that one batch holds in memory")
    batch_wait_s: Seconds = Field(
        default=0.05, description="how long a batch that is not full waits for more; 0 does not wait"
    )
