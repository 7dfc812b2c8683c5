"""What can go wrong with a broker of our own."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class KafkaServerError(StandgaleError):
    """The broker could not be fetched, started or stopped; the text says what is missing."""

    code: ClassVar[str] = "KAFKA_SERVER"
