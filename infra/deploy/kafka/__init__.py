"""A real Apache Kafka broker without Docker: Maven brings the jars, Java runs them; for tests and small machines."""

from __future__ import annotations

from infra.deploy.kafka.cluster import KafkaCluster
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.security import Security
from infra.deploy.kafka.server import KafkaServer

__all__ = ["KafkaCluster", "KafkaServer", "KafkaServerError", "Security"]
