"""What tests that start a Kafka need of the machine."""

from __future__ import annotations

import os
import shutil

import pytest

from infra.deploy.kafka.jars import missing_tools

SECURED_USERS = {"worker": "worker-secret", "poor": "poor-secret"}
"""The users of the broker ``secured_kafka`` and their passwords; no right is given to any of them."""


def require_kafka_tools(*more: str) -> None:
    """Skip the test without Java, Maven or one of ``more``, but fail where CI is set: CI has them."""
    missing = [*missing_tools(), *(tool for tool in more if shutil.which(tool) is None)]
    if missing:
        reason = f"{' and '.join(missing)} not found; Kafka tests need Java 17, Apache Maven and openssl"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
