"""Defines texts and times of requests that a database can keep: others are wrong fields, not errors of the database."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime
from pydantic_core import PydanticCustomError

from schemas.timestamps import in_utc


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a null character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a character") from error
    return text


StorableText = Annotated[str, AfterValidator(_storable)]
"""No null character, which PostgreSQL cannot store, and no half of a surrogate pair, which UTF-8 cannot write"""
StorableTime = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""In UTC"""


def require_written_time(value: object) -> object:
    """Refuse numbers, which pydantic would read as seconds since 1970; use it as a BeforeValidator."""
    if isinstance(value, str) and ":" not in value:
        raise PydanticCustomError("datetime_parsing", "it is no time")
    return value
