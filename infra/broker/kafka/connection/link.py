"""How the adapter reaches Kafka: client options from the settings, patience, and checks that all its parts share."""

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
from infra.broker.kafka.connection.faults import FAULTS, UNREACHED, ErrorTranslator
from infra.broker.kafka.connection.lost_writes import patch_lost_writes
from infra.broker.port import GroupSpec, OutRecord
from infra.broker.settings import BrokerSettings
from infra.broker.sizes import record_bytes
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError, TopicMismatchError
from infra.secrets import read_secret
from schemas.errors import StandgaleError
from schemas.topics import TopicSpec

Options = dict[str, object]
Result = TypeVar("Result")

# Never: aiokafka counts the time between polls, and a slow caller must not lose its partitions. A dead process or a
# blocked event loop still does, because its heartbeats stop and the session runs out.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_HEARTBEATS_PER_SESSION = 4
_MIN_REBALANCE_S = 10.0
_DEFAULT_MESSAGE_BYTES = 1_048_576
# Compressing what can't be compressed adds less than this; a record so much below the limit is never too large.
_SURELY_TAKEN = 0.98
_RECORD_OVERHEAD_BYTES = 128
_PRODUCER_METADATA_AGE_S = 2.0
"""How often a producer looks whether its topics still have the partitions they had."""
_DIAGNOSIS_S = 2.0
_BATCH_BYTES = 262_144
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


def pauses(first_s: float = _FIRST_PAUSE_S, longest_s: float = _LONGEST_PAUSE_S) -> Iterator[float]:
    """Seconds to wait before each further try: they double up to ``longest_s``, and jitter by a half."""
    pause = first_s
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 (jitter needs no secrecy)
        pause = min(pause * 2, longest_s)


class Link:
    """What every part of the adapter shares: settings, topic limits, words for errors, and clients on their way out."""

    def __init__(
        self, settings: BrokerSettings, topics: Mapping[str, TopicSpec], password_file: Path | None = None
    ) -> None:
        self.settings = settings
        self.topics = topics
        self.timeout_s = settings.request_timeout_s
        self.client_shutdown = ClientShutdown()
        self._password_file = password_file
        self._words = ErrorTranslator(self.where, settings)
        patch_lost_writes()
        self._ssl: ssl.SSLContext | None = None
        self._look: asyncio.Task[Diagnosis | None] | None = None

    @property
    def where(self) -> str:
        """The broker's name in messages."""
        return f"Kafka at {self.settings.bootstrap_servers}"

    def client_options(self, request_timeout_s: float | None = None) -> Options:
        """What every aiokafka client is made with. Raises SettingsError for a certificate file that cannot be used."""
        settings = self.settings
        return {
            "bootstrap_servers": settings.bootstrap_servers,
            "security_protocol": settings.security_protocol,
            "ssl_context": self._ssl_context(),
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": self._password(),
            "request_timeout_ms": int(1000 * (request_timeout_s or self.timeout_s)),
        }

    def producer_options(self) -> Options:
        """What every producer is made with: durable, idempotent, batches as large as the smallest topic takes."""
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
        """What every consumer of ``topics`` is made with."""
        return {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            # A short wait: a partition that gets its place while a fetch is out joins only the next one.
            "fetch_max_wait_ms": 100,
            # How often aiokafka asks a broker that is away, and writes an error to its log each time.
            "retry_backoff_ms": 300,
            "max_partition_fetch_bytes": self.largest_message_bytes(topics) + _RECORD_OVERHEAD_BYTES,
        }

    def member_options(self, spec: GroupSpec, assignor: object) -> Options:
        """What the consumer of a group member is made with."""
        session_s = spec.session_timeout_s
        rebalance_s = max(session_s, _MIN_REBALANCE_S)
        return {
            # Kafka answers a join only when the rebalance ends, so the request must be allowed to take longer.
            **self.client_options(max(self.timeout_s, rebalance_s + 5.0)),
            **self.fetch_options(spec.topics),
            "group_id": spec.group,
            "group_instance_id": spec.instance_id,
            "partition_assignment_strategy": (assignor,),
            # The membership sets each partition's place itself: aiokafka would step over lost records in silence.
            "auto_offset_reset": "none",
            "session_timeout_ms": int(1000 * session_s),
            "heartbeat_interval_ms": int(1000 * session_s / _HEARTBEATS_PER_SESSION),
            "rebalance_timeout_ms": int(1000 * rebalance_s),
            "max_poll_interval_ms": _MAX_POLL_INTERVAL_MS,
        }

    def largest_message_bytes(self, topics: Collection[str]) -> int:
        """The largest record any of ``topics`` takes."""
        return max(
            [_DEFAULT_MESSAGE_BYTES, *(self.topics[name].max_message_bytes for name in topics if name in self.topics)]
        )

    def check_sizes(self, records: Sequence[OutRecord]) -> None:
        """Raise RecordTooLargeError when a record is larger than its topic is declared to take."""
        for record in records:
            check_size(record, self._limit(record.topic))

    def size_fault(self, fault: StandgaleError, records: Collection[OutRecord]) -> StandgaleError:
        """``fault``, or a TopicMismatchError where Kafka refuses records of a size that topics.yaml declares.

        Somebody gave a topic a smaller limit then, which is no fault of a record: it is waited for, not given up.
        """
        limits = {record.topic: self._limit(record.topic) for record in records}
        if (
            not isinstance(fault, RecordTooLargeError)
            or not records
            or any(record_bytes(record) > _SURELY_TAKEN * limits[record.topic] for record in records)
        ):
            return fault
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

    def fault(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """``error`` of aiokafka, met while ``doing`` something, as an error of ours; ``right`` is what that takes."""
        return self._words.fault(error, doing, right)

    async def explain(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """As :meth:`fault`; where aiokafka does not tell why Kafka cannot be reached, find it out."""
        fault = self.fault(error, doing, right)
        if not isinstance(error, UNREACHED) or not isinstance(fault, BrokerUnavailableError):
            return fault
        found = await self._diagnose()
        if found is None:
            return fault
        text = f"{self.where}: {doing} failed: {found.text}"
        return RefusedError(text) if found.refused else BrokerUnavailableError(f"{text}; check that the broker runs")

    async def ask(self, doing: str, call: Callable[[], Awaitable[Result]], timeout_s: float | None = None) -> Result:
        """What ``call`` answers. Passing faults are tried again until ``timeout_s`` is over, then raised.

        By default that is ``request_timeout_s``. What a person must mend is raised at once.
        """
        deadline = asyncio.get_running_loop().time() + (timeout_s or self.timeout_s)
        explained = False
        for pause in pauses():
            try:
                async with asyncio.timeout_at(deadline):
                    return await call()
            except FAULTS as error:
                late = asyncio.get_running_loop().time() + pause > deadline
                final = late or not getattr(error, "retriable", True)
                if final or (isinstance(error, UNREACHED) and not explained):
                    explained = True
                    fault = await self.explain(error, doing)
                    if final or isinstance(fault, RefusedError):
                        raise fault from error
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def close(self) -> None:
        """End the look at the brokers that is under way, and return when all clients have left."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait({self._look})
        await self.client_shutdown.wait_closed()

    async def _diagnose(self) -> Diagnosis | None:
        """What is wrong with the brokers; None: nothing that was found. Calls at the same time share one look."""
        if self._look is None or self._look.done():
            work = diagnose(self.settings, self.client_options(), min(self.timeout_s, _DIAGNOSIS_S))
            self._look = asyncio.create_task(work, name="kafka-diagnosis")
        look = self._look
        # Not awaited itself: a caller that is cancelled must not end it for the others, nor its end cancel a caller.
        await asyncio.wait({look})
        return None if look.cancelled() else look.result()

    def _limit(self, topic: str) -> int:
        """How many bytes a record of ``topic`` may have, as it is declared."""
        spec = self.topics.get(topic)
        return _DEFAULT_MESSAGE_BYTES if spec is None else spec.max_message_bytes

    def _password(self) -> str | None:
        """The password as it is now: a file is read again, so that a rotation needs no restart."""
        current = None if self._password_file is None else read_secret(self._password_file)
        given = self.settings.sasl_password
        return current or (None if given is None else given.get_secret_value())

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.settings.security_protocol not in ("SSL", "SASL_SSL"):
            return None
        if self._ssl is None:
            self._ssl = load_certificates(self.settings)
        return self._ssl
