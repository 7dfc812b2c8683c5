"""What the gateway's responses mean for a frame."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest

from ingest.edge.sending.responses import Accepted, NotSent, Rejected, outcome_of
from schemas.timestamps import utc_now

SHA = "ab" * 32
ACCEPTED = json.dumps({"frame_id": "x", "status": "accepted", "image": {"sha256": SHA}}).encode()


def error(code: str) -> bytes:
    return json.dumps({"status": "error", "error_code": code, "message": "because", "details": "do that"}).encode()


def failure(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> NotSent:
    outcome = outcome_of(status, headers or {}, body, SHA)
    assert isinstance(outcome, NotSent)
    return outcome


def test_202_that_names_the_image_is_accepted() -> None:
    assert outcome_of(202, {}, ACCEPTED, SHA) == Accepted()


@pytest.mark.parametrize("body", [b"", b"<html>Welcome, please log in</html>", b"[]", b'{"image": 1}'])
def test_202_without_the_image_is_not_the_gateway(body: bytes) -> None:
    assert failure(202, body).needs_person


def test_202_with_other_bytes_is_sent_again() -> None:
    found = failure(202, ACCEPTED.replace(b"ab", b"cd"))
    assert (found.code, found.needs_person) == ("ALTERED_ON_THE_WAY", False)


@pytest.mark.parametrize("status", [200, 204, 404, 405, 409, 431])
def test_status_that_a_gateway_does_not_give_keeps_the_frame(status: int) -> None:
    found = failure(status, b"<html>portal</html>")
    assert found.needs_person
    assert str(status) in found.reason


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_refusal_of_the_gateway_is_final_and_that_of_a_proxy_is_not(status: int) -> None:
    """C-S2-086: 4xx is not tried again."""
    assert outcome_of(status, {}, error("FILE_TOO_LARGE"), SHA) == Rejected("FILE_TOO_LARGE", "because. do that")
    assert failure(status, b"<html>nginx</html>").needs_person


@pytest.mark.parametrize("status", [401, 403])
def test_token_that_is_not_valid_keeps_the_frame_until_a_person_acts(status: int) -> None:
    """C-S1-114: a device tries 401 again after a new token."""
    found = failure(status, error("UNAUTHORIZED"))
    assert found.needs_person
    assert "STANDGALE_EDGE__TOKEN_FILE" in found.reason
    assert "the token is not valid" not in found.reason, "the gateway has said it"


@pytest.mark.parametrize(("status", "alone"), [(408, False), (429, False), (500, True), (502, False), (503, False)])
def test_transient_status_is_tried_again(status: int, alone: bool) -> None:
    """C-S1-114 and C-S2-086: 503, other 5xx and 429 are tried again."""
    found = failure(status, error("OVERLOADED"), {"Retry-After": "7"})
    assert (found.needs_person, found.may_be_frame, found.retry_after_s) == (False, alone, 7.0)


def test_upload_that_was_cut_off_is_tried_again() -> None:
    assert failure(400, error("UPLOAD_INCOMPLETE")).code == "UPLOAD_INCOMPLETE"


def test_redirect_is_not_followed_and_its_target_is_named() -> None:
    found = failure(307, b"", {"Location": "https://elsewhere.example/api"})
    assert found.needs_person
    assert "https://elsewhere.example/api" in found.reason


def test_retry_after_date_is_a_number_of_seconds() -> None:
    header = format_datetime(utc_now() + timedelta(seconds=90), usegmt=True)
    assert 80 < failure(503, b"", {"Retry-After": header}).retry_after_s <= 90


@pytest.mark.parametrize(
    ("text", "seconds"), [("soon", 0), ("-5", 0), ("9" * 400, 3600), ("1e400", 0), ("", 0), ("86400", 3600)]
)
def test_retry_after_has_bounds(text: str, seconds: float) -> None:
    assert failure(503, b"", {"Retry-After": text}).retry_after_s in (seconds, 0)
