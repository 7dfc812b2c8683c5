"""What tests that start a Kafka need of the machine."""

from __future__ import annotations

import os

import pytest

from infra.deploy.kafka.jars import missing_tools


def require_kafka_tools() -> None:
    """Without Java or Maven the test is skipped, but fails where CI is set: CI has them."""
    missing = missing_tools()
    if missing:
        reason = f"{' and '.join(missing)} not found; Kafka tests need Java 17 and Apache Maven"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
