"""Transient errors, and the codes of errors."""

from __future__ import annotations

import pytest

from infra.errors import DatabaseUnavailableError, ImageMissingError, TransientError
from infra.failure.error_texts import UNEXPECTED, error_code, is_transient


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
