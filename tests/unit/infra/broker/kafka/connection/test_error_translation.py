"""Tests the translation of aiokafka's errors: what was refused, which right is missing, which setting is named."""

from __future__ import annotations

import pytest

pytest.importorskip("aiokafka")

from aiokafka import TopicPartition
from aiokafka import errors as kafka

from infra.broker.kafka.connection.error_translation import ErrorTranslator, is_final
from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError

TRANSLATOR = ErrorTranslator("Kafka at host:9092", BrokerSettings(kind="kafka"))


def test_record_refused_for_its_time_names_the_clocks() -> None:
    translated = TRANSLATOR.error(kafka.InvalidTimestampError(), "publishing 1 records")
    assert isinstance(translated, RefusedError)
    assert "clock" in str(translated)
    assert "bootstrap_servers" not in str(translated)


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
    translated = TRANSLATOR.error(error, "consuming", "READ")
    assert isinstance(translated, RefusedError)
    assert f"the anonymous user lacks the right {right}" in str(translated)
    assert not is_final(error)


def test_specific_cause_replaces_the_error_around_it() -> None:
    around = kafka.KafkaError("Unexpected error during batch delivery")
    around.__cause__ = kafka.TopicAuthorizationFailedError("detections")
    assert "WRITE on topic detections" in str(TRANSLATOR.error(around, "publishing", "WRITE"))
    assert not is_final(around)
    assert is_final(kafka.KafkaError("Unexpected error during batch delivery"))
    assert is_final(kafka.ProducerFenced())


def test_error_text_has_no_python_address_constants() -> None:
    error = kafka.KafkaConnectionError("Unable to bootstrap from [('127.0.0.1', 1, <AddressFamily.AF_INET: 2>)]")
    translated = TRANSLATOR.error(error, "connecting")
    assert isinstance(translated, BrokerUnavailableError)
    assert "AddressFamily" not in str(translated)
    assert "no broker could be reached" in str(translated)


def test_record_too_large_for_the_broker_raises_record_too_large() -> None:
    assert isinstance(TRANSLATOR.error(kafka.MessageSizeTooLargeError(), "publishing"), RecordTooLargeError)


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
    translated = TRANSLATOR.error(kafka.TopicAuthorizationFailedError(argument), "reading", "READ")
    assert isinstance(translated, RefusedError)
    assert "lacks the right READ on topic detections;" in str(translated)


def test_right_without_a_topic_name_has_no_name() -> None:
    assert "lacks the right READ on topic;" in str(
        TRANSLATOR.error(kafka.TopicAuthorizationFailedError(29), "reading", "READ")
    )
