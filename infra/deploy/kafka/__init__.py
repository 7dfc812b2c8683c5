"""Runs a real Apache Kafka without Docker, with jars from Maven; for tests and small machines."""

from __future__ import annotations

from infra.deploy.kafka.cluster import KafkaCluster
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.security import Security
from infra.deploy.kafka.server import KafkaServer

__all__ = ["KafkaCluster", "KafkaServer", "KafkaServerError", "Security"]
