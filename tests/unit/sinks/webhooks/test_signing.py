"""Signatures are verified by the library of Standard Webhooks; the schedule spans a day."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from sinks.webhooks.schedule import DELAYS_S, MAX_ATTEMPTS, delay_after
from sinks.webhooks.signing import headers_of, new_secret


def test_both_secrets_of_a_rotation_verify_and_no_other() -> None:
    new, former, other = new_secret(), new_secret(), new_secret()
    payload = b'{"type":"test"}'
    headers = headers_of("2f1c", int(time.time()), payload, [new, former])
    for secret in (new, former):
        assert Webhook(secret).verify(payload, headers) == {"type": "test"}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(payload, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(payload + b" ", headers)


def test_attempts_span_a_day_and_end() -> None:
    delays = [delay_after(number) for number in range(1, MAX_ATTEMPTS)]
    total_s = sum(delay.total_seconds() for delay in delays if delay is not None)
    assert 0.9 * 24 * 3_600 < total_s < 30 * 3_600
    assert delay_after(MAX_ATTEMPTS) is None
    assert len(delays) == len(DELAYS_S)


def test_a_longer_wait_that_a_receiver_asks_for_is_granted_up_to_an_hour() -> None:
    def seconds(asked_s: float) -> float:
        delay = delay_after(1, asked_s)
        assert delay is not None
        return delay.total_seconds()

    assert seconds(120.0) == 120.0
    assert seconds(1.0) < 6.0
    assert seconds(99_999.0) == 3_600.0
