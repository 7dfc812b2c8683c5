"""Builds client options from the settings, retries calls, and translates errors for all parts of the adapter."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from infra.broker.checks import check_size
from infra.broker.kafka.connection.certificates import load_certificates
from infra.broker.kafka.connection.client_shutdown import ClientShutdown
from infra.broker.kafka.connection.diagnosis import Diagnosis, diagnose
from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS, UNREACHED, ErrorTranslator
from infra.broker.kafka.connection.lost_writes import patch_lost_writes
from infra.broker.port import GroupSpec, OutRecord
from infra.broker.settings import BrokerSettings
from infra.broker.sizes import record_bytes
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError, TopicMismatchError
from infra.secrets import present_secret
from schemas.errors import StandgaleError
from schemas.topics import TopicSpec

Options = dict[str, object]
Result = TypeVar("Result")

# Practically never: aiokafka counts the time between polls, and a slow caller must not lose its partitions. A dead
# process or a blocked event loop still loses them, because its heartbeats stop and the session ends.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_HEARTBEATS_PER_SESSION = 4
_MIN_REBALANCE_S = 10.0
_DEFAULT_MESSAGE_BYTES = 1_048_576
# Compression adds less than this to incompressible data; a record that much below the limit is never too large.
_SURELY_TAKEN = 0.98
_RECORD_OVERHEAD_BYTES = 128
_PRODUCER_METADATA_AGE_S = 2.0
"""How often a producer checks whether its topics still have the same partitions."""
_DIAGNOSIS_S = 2.0
_BATCH_BYTES = 262_144
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


def pauses(first_s: float = _FIRST_PAUSE_S, longest_s: float = _LONGEST_PAUSE_S) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: they double up to ``longest_s``, with 50 % jitter."""
    pause = first_s
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 (jitter needs no secrecy)
        pause = min(pause * 2, longest_s)


class Link:
    """Shares settings, topic limits, error translation and client shutdown between all parts of the adapter."""

    def __init__(
        self, settings: BrokerSettings, topics: Mapping[str, TopicSpec], password_file: Path | None = None
    ) -> None:
        self.settings = settings
        self.topics = topics
        self.timeout_s = settings.request_timeout_s
        self.client_shutdown = ClientShutdown()
        self._password_file = password_file
        self._translator = ErrorTranslator(self.where, settings)
        patch_lost_writes()
        self._ssl: ssl.SSLContext | None = None
        self._diagnosis: asyncio.Task[Diagnosis | None] | None = None

    @property
    def where(self) -> str:
        """The broker's name in messages."""
        return f"Kafka at {self.settings.bootstrap_servers}"

    def client_options(self, request_timeout_s: float | None = None) -> Options:
        """Return the options of every aiokafka client. Raises SettingsError for an unusable certificate file."""
        settings = self.settings
        return {
            "bootstrap_servers": settings.bootstrap_servers,
            "security_protocol": settings.security_protocol,
            "ssl_context": self._ssl_context(),
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": present_secret(self._password_file, self.settings.sasl_password),
            "request_timeout_ms": int(1000 * (request_timeout_s or self.timeout_s)),
        }

    def producer_options(self) -> Options:
        """Return the options of every producer: durable, idempotent, batches as large as the smallest topic takes."""
        smallest = min((spec.max_message_bytes for spec in self.topics.values()), default=_DEFAULT_MESSAGE_BYTES)
        compression = self.settings.compression
        return {
            **self.client_options(),
            "acks": "all",
            "metadata_max_age_ms": int(1000 * _PRODUCER_METADATA_AGE_S),
            "enable_idempotence": True,
            "compression_type": None if compression == "none" else compression,
            "max_batch_size": max(1024, min(_BATCH_BYTES, smallest - _RECORD_OVERHEAD_BYTES)),
            "max_request_size": self.largest_message_bytes(self.topics) + _RECORD_OVERHEAD_BYTES,
        }

    def fetch_options(self, topics: Collection[str]) -> Options:
        """Return the options of every consumer of ``topics``."""
        return {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            # A short wait: a partition that gets its start point during a fetch is read only by the next one.
            "fetch_max_wait_ms": 100,
            # How often aiokafka tries a broker that is unavailable, and logs an error each time.
            "retry_backoff_ms": 300,
            "max_partition_fetch_bytes": self.largest_message_bytes(topics) + _RECORD_OVERHEAD_BYTES,
        }

    def member_options(self, spec: GroupSpec, assignor: object) -> Options:
        """Return the options of a group member's consumer."""
        session_s = spec.session_timeout_s
        rebalance_s = max(session_s, _MIN_REBALANCE_S)
        return {
            # Kafka responds to a join only when the rebalance ends, so the request may take longer.
            **self.client_options(max(self.timeout_s, rebalance_s + 5.0)),
            **self.fetch_options(spec.topics),
            "group_id": spec.group,
            "group_instance_id": spec.instance_id,
            "partition_assignment_strategy": (assignor,),
            # The membership sets each partition's start itself: aiokafka would skip lost records silently.
            "auto_offset_reset": "none",
            "session_timeout_ms": int(1000 * session_s),
            "heartbeat_interval_ms": int(1000 * session_s / _HEARTBEATS_PER_SESSION),
            "rebalance_timeout_ms": int(1000 * rebalance_s),
            "max_poll_interval_ms": _MAX_POLL_INTERVAL_MS,
        }

    def largest_message_bytes(self, topics: Collection[str]) -> int:
        """Return the size of the largest record that any of ``topics`` takes."""
        return max(
            [_DEFAULT_MESSAGE_BYTES, *(self.topics[name].max_message_bytes for name in topics if name in self.topics)]
        )

    def check_sizes(self, records: Sequence[OutRecord]) -> None:
        """Raise RecordTooLargeError when a record is larger than its topic is declared to take."""
        for record in records:
            check_size(record, self._limit(record.topic))

    def size_error(self, error: StandgaleError, records: Collection[OutRecord]) -> StandgaleError:
        """Return ``error``, or a TopicMismatchError when Kafka refuses records of a size that topics.yaml allows.

        In this case a topic has a smaller limit than declared, for which the record is not to blame: the caller waits.
        """
        limits = {record.topic: self._limit(record.topic) for record in records}
        if (
            not isinstance(error, RecordTooLargeError)
            or not records
            or any(record_bytes(record) > _SURELY_TAKEN * limits[record.topic] for record in records)
        ):
            return error
        declared = ", ".join(f"{topic} ({limit})" for topic, limit in sorted(limits.items()))
        return TopicMismatchError(
            f"{self.where} takes smaller records than topics.yaml declares (max_message_bytes) for one of {declared}; "
            "run `standgale topics check`, then `standgale topics apply`"
        )

    def check_present(self, topics: Collection[str], found: Collection[str]) -> None:
        """Raise TopicMismatchError when one of ``topics`` is not among the ``found`` ones."""
        absent = sorted(set(topics) - set(found))
        if absent:
            raise TopicMismatchError(
                f"{self.where} has no topic {', '.join(absent)}; declare it in topics.yaml and run "
                "`standgale topics apply`"
            )

    def error(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """Return Standgale's error for aiokafka's ``error``, raised while ``doing`` what needs ``right``."""
        return self._translator.error(error, doing, right)

    async def explain(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """Return what :meth:`error` does; when Kafka cannot be reached, find out why and put it in the text."""
        translated = self.error(error, doing, right)
        if not isinstance(error, UNREACHED) or not isinstance(translated, BrokerUnavailableError):
            return translated
        found = await self._diagnose()
        if found is None:
            return translated
        text = f"{self.where}: {doing} failed: {found.text}"
        return RefusedError(text) if found.refused else BrokerUnavailableError(f"{text}; check that the broker runs")

    async def ask(self, doing: str, call: Callable[[], Awaitable[Result]], timeout_s: float | None = None) -> Result:
        """Return the result of ``call``; after a transient error, call again until ``timeout_s`` is over.

        Then the error is raised. The default is ``request_timeout_s``. An error that a person must correct is raised at
        once.
        """
        deadline = asyncio.get_running_loop().time() + (timeout_s or self.timeout_s)
        explained = False
        for pause in pauses():
            try:
                async with asyncio.timeout_at(deadline):
                    return await call()
            except CLIENT_ERRORS as error:
                late = asyncio.get_running_loop().time() + pause > deadline
                final = late or not getattr(error, "retriable", True)
                if final or (isinstance(error, UNREACHED) and not explained):
                    explained = True
                    translated = await self.explain(error, doing)
                    if final or isinstance(translated, RefusedError):
                        raise translated from error
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def close(self) -> None:
        """End the running diagnosis, and wait until all clients are closed."""
        if self._diagnosis is not None:
            self._diagnosis.cancel()
            await asyncio.wait({self._diagnosis})
        await self.client_shutdown.wait_closed()

    async def _diagnose(self) -> Diagnosis | None:
        """Return what is wrong with the brokers, or None. Calls at the same time share one diagnosis."""
        if self._diagnosis is None or self._diagnosis.done():
            work = diagnose(self.settings, self.client_options(), min(self.timeout_s, _DIAGNOSIS_S))
            self._diagnosis = asyncio.create_task(work, name="kafka-diagnosis")
        diagnosis = self._diagnosis
        # Not awaited itself: a cancelled caller must not end it for the others, and its end must not cancel a caller.
        await asyncio.wait({diagnosis})
        return None if diagnosis.cancelled() else diagnosis.result()

    def _limit(self, topic: str) -> int:
        """Return how many bytes a record of ``topic`` may have according to its declaration."""
        spec = self.topics.get(topic)
        return _DEFAULT_MESSAGE_BYTES if spec is None else spec.max_message_bytes

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.settings.security_protocol not in ("SSL", "SASL_SSL"):
            return None
        if self._ssl is None:
            self._ssl = load_certificates(self.settings)
        return self._ssl
