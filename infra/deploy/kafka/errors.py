"""Defines the error of a local Kafka broker."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class KafkaServerError(StandgaleError):
    """Reports that the broker could not be fetched, started or stopped; the text says what to do."""

    code: ClassVar[str] = "KAFKA_SERVER"
