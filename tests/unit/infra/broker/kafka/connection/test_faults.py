"""Tests the translation of aiokafka's errors: what was refused, which right is missing, which setting is named."""

from __future__ import annotations

import pytest

pytest.importorskip("aiokafka")

from aiokafka import TopicPartition
from aiokafka import errors as kafka

from infra.broker.kafka.connection.faults import ErrorTranslator, is_final
from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError

TRANSLATOR = ErrorTranslator("Kafka at host:9092", BrokerSettings(kind="kafka"))


def test_record_refused_for_its_time_names_the_clocks() -> None:
    fault = TRANSLATOR.fault(kafka.InvalidTimestampError(), "publishing 1 records")
    assert isinstance(fault, RefusedError)
    assert "clock" in str(fault)
    assert "bootstrap_servers" not in str(fault)


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
def test_missing_right_is_named_as_refused(error: kafka.KafkaError, right: str) -> None:
    fault = TRANSLATOR.fault(error, "consuming", "READ")
    assert isinstance(fault, RefusedError)
    assert f"the anonymous user lacks the right {right}" in str(fault)
    assert not is_final(error)


def test_specific_cause_replaces_the_error_around_it() -> None:
    around = kafka.KafkaError("Unexpected error during batch delivery")
    around.__cause__ = kafka.TopicAuthorizationFailedError("detections")
    assert "WRITE on topic detections" in str(TRANSLATOR.fault(around, "publishing", "WRITE"))
    assert not is_final(around)
    assert is_final(kafka.KafkaError("Unexpected error during batch delivery"))
    assert is_final(kafka.ProducerFenced())


def test_error_text_has_no_python_address_constants() -> None:
    error = kafka.KafkaConnectionError("Unable to bootstrap from [('127.0.0.1', 1, <AddressFamily.AF_INET: 2>)]")
    fault = TRANSLATOR.fault(error, "connecting")
    assert isinstance(fault, BrokerUnavailableError)
    assert "AddressFamily" not in str(fault)
    assert "no broker could be reached" in str(fault)


def test_record_too_large_for_the_broker_raises_record_too_large() -> None:
    assert isinstance(TRANSLATOR.fault(kafka.MessageSizeTooLargeError(), "publishing"), RecordTooLargeError)


@pytest.mark.parametrize(
    "argument",
    [
        "detections",
        {"detections"},
        TopicPartition("detections", 3),
        [TopicPartition("detections", 3)],
        ("detections", 3),
    ],
)
def test_right_is_named_for_each_form_of_aiokafka_topic_names(argument: object) -> None:
    fault = TRANSLATOR.fault(kafka.TopicAuthorizationFailedError(argument), "reading", "READ")
    assert isinstance(fault, RefusedError)
    assert "lacks the right READ on topic detections;" in str(fault)


def test_right_without_a_topic_name_has_no_name() -> None:
    assert "lacks the right READ on topic;" in str(
        TRANSLATOR.fault(kafka.TopicAuthorizationFailedError(29), "reading", "READ")
    )
