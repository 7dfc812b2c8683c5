"""Checks that this machine can start Kafka, and makes the settings to connect to it."""

from __future__ import annotations

import os
import shutil

import pytest
from pydantic import SecretStr

from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaCluster, KafkaServer
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


def kafka_settings(server: KafkaServer | KafkaCluster, **more: object) -> BrokerSettings:
    """Return the settings of programs that use ``server``, plus ``more``; each node keeps a copy."""
    copies = len(server.numbers) if isinstance(server, KafkaCluster) else 1
    settings = {"kind": "kafka", "bootstrap_servers": server.bootstrap_servers, "replication": copies}
    return BrokerSettings.model_validate(settings | more)


def scram(server: KafkaServer, user: str) -> dict[str, object]:
    """Return the settings of programs that log in to ``server`` as ``user``, one of ``SECURED_USERS``."""
    return {
        "bootstrap_servers": server.address("SASL_PLAINTEXT"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": user,
        "sasl_password": SecretStr(SECURED_USERS[user]),
    }
