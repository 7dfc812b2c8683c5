"""aiokafka's errors in our words: what was refused, which right is missing, and no blame on the wrong setting."""

from __future__ import annotations

import pytest

pytest.importorskip("aiokafka")

from aiokafka import TopicPartition
from aiokafka import errors as kafka

from infra.broker.kafka.connection.faults import ErrorTranslator, is_final
from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError

WORDS = ErrorTranslator("Kafka at host:9092", BrokerSettings(kind="kafka"))


def test_a_record_refused_for_its_time_blames_the_clocks() -> None:
    told = WORDS.fault(kafka.InvalidTimestampError(), "publishing 1 records")
    assert isinstance(told, RefusedError)
    assert "clock" in str(told)
    assert "bootstrap_servers" not in str(told)


@pytest.mark.parametrize(
    ("error", "right"),
    [
        (kafka.TopicAuthorizationFailedError("frames.live"), "READ on topic frames.live"),
        (kafka.TopicAuthorizationFailedError({"b", "a"}), "READ on topic a, b"),
        (kafka.GroupAuthorizationFailedError("detector"), "READ on group detector"),
        (kafka.TransactionalIdAuthorizationFailed("detector-p3"), "WRITE on transactional id detector-p3"),
        (kafka.ClusterAuthorizationFailedError(), "WRITE on any topic"),
    ],
)
def test_a_missing_right_is_named_and_waited_for(error: kafka.KafkaError, right: str) -> None:
    told = WORDS.fault(error, "consuming", "READ")
    assert isinstance(told, RefusedError)
    assert f"the anonymous user lacks the right {right}" in str(told)
    assert not is_final(error)


def test_a_cause_that_says_what_to_do_is_told_instead_of_the_error_around_it() -> None:
    around = kafka.KafkaError("Unexpected error during batch delivery")
    around.__cause__ = kafka.TopicAuthorizationFailedError("detections")
    assert "WRITE on topic detections" in str(WORDS.fault(around, "publishing", "WRITE"))
    assert not is_final(around)
    assert is_final(kafka.KafkaError("Unexpected error during batch delivery"))
    assert is_final(kafka.ProducerFenced())


def test_addresses_are_not_told_as_python_has_them() -> None:
    error = kafka.KafkaConnectionError("Unable to bootstrap from [('127.0.0.1', 1, <AddressFamily.AF_INET: 2>)]")
    told = WORDS.fault(error, "connecting")
    assert isinstance(told, BrokerUnavailableError)
    assert "AddressFamily" not in str(told)
    assert "no broker could be reached" in str(told)


def test_a_record_that_the_broker_finds_too_large_is_a_record_error() -> None:
    assert isinstance(WORDS.fault(kafka.MessageSizeTooLargeError(), "publishing"), RecordTooLargeError)


@pytest.mark.parametrize(
    "told",
    [
        "detections",
        {"detections"},
        TopicPartition("detections", 3),
        [TopicPartition("detections", 3)],
        ("detections", 3),
    ],
)
def test_a_right_is_named_however_aiokafka_tells_the_topic(told: object) -> None:
    fault = WORDS.fault(kafka.TopicAuthorizationFailedError(told), "reading", "READ")
    assert isinstance(fault, RefusedError)
    assert "lacks the right READ on topic detections;" in str(fault)


def test_a_right_that_aiokafka_tells_by_a_number_only_is_told_without_a_name() -> None:
    assert "lacks the right READ on topic;" in str(
        WORDS.fault(kafka.TopicAuthorizationFailedError(29), "reading", "READ")
    )
