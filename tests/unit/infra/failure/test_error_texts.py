"""Transient errors, and the codes of errors."""

from __future__ import annotations

import pytest

from infra.errors import DatabaseUnavailableError, ImageMissingError, TransientError
from infra.failure.error_texts import UNEXPECTED, error_code, error_text, is_transient


@pytest.mark.parametrize(
    ("error", "transient", "code"),
    [
        (DatabaseUnavailableError("away"), True, "DATABASE_UNAVAILABLE"),
        (ConnectionResetError("reset"), True, TransientError.code),
        (TimeoutError(), True, TransientError.code),
        (ImageMissingError("gone"), False, "IMAGE_MISSING"),
        (KeyError("bug"), False, UNEXPECTED),
    ],
)
def test_is_transient_and_error_code(error: Exception, transient: bool, code: str) -> None:
    assert is_transient(error) is transient
    assert error_code(error) == code


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class MuteDatabaseError(DatabaseUnavailableError):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_error_text_of_an_error_whose_own_text_fails_names_its_class() -> None:
    assert error_text(MuteError()) == "MuteError: its text cannot be made (ValueError)"
    assert error_text(MuteDatabaseError()) == "its text cannot be made (ValueError)"
