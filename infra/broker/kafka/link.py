"""How the adapter reaches Kafka: client options from the settings, and aiokafka's errors in Windhover's words."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from aiokafka import errors as kafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.helpers import create_ssl_context

from infra.broker.kafka.letting_go import Leavers
from infra.broker.port import GroupSpec, OutRecord
from infra.broker.sizes import record_bytes
from infra.errors import BrokerUnavailableError, RecordTooLargeError, SettingsError
from infra.settings import BrokerSettings
from schemas.errors import WindhoverError
from schemas.topics import TopicSpec

Options = dict[str, object]
Answer = TypeVar("Answer")

FAULTS = (kafka.KafkaError, OSError, TimeoutError)
"""What a call of aiokafka raises when Kafka, or the way to it, is at fault."""

_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_REFUSED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
# Never: aiokafka counts the time between polls, and a slow caller must not lose its partitions. A dead process or a
# blocked event loop still does, because its heartbeats stop and the session runs out.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_HEARTBEATS_PER_SESSION = 4
_MIN_REBALANCE_S = 10.0
_DEFAULT_MESSAGE_BYTES = 1_048_576
_RECORD_OVERHEAD_BYTES = 128
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

    def __init__(self, settings: BrokerSettings, topics: Mapping[str, TopicSpec]) -> None:
        self.settings = settings
        self.topics = topics
        self.timeout_s = settings.request_timeout_s
        self.leavers = Leavers()
        self._ssl: ssl.SSLContext | None = None

    @property
    def where(self) -> str:
        """The broker's name in messages."""
        return f"Kafka at {self.settings.bootstrap_servers}"

    def client_options(self, request_timeout_s: float | None = None) -> Options:
        """What every aiokafka client is made with. Raises SettingsError for a certificate file that cannot be used."""
        settings = self.settings
        password = settings.sasl_password
        return {
            "bootstrap_servers": settings.bootstrap_servers,
            "security_protocol": settings.security_protocol,
            "ssl_context": self._ssl_context(),
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": None if password is None else password.get_secret_value(),
            "request_timeout_ms": int(1000 * (request_timeout_s or self.timeout_s)),
        }

    def producer_options(self) -> Options:
        """What every producer is made with: durable, idempotent, batches as large as the smallest topic takes."""
        smallest = min((spec.max_message_bytes for spec in self.topics.values()), default=_DEFAULT_MESSAGE_BYTES)
        compression = self.settings.compression
        return {
            **self.client_options(),
            "acks": "all",
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

    def member_options(self, spec: GroupSpec) -> Options:
        """What the consumer of a group member is made with."""
        session_s = spec.session_timeout_s
        rebalance_s = max(session_s, _MIN_REBALANCE_S)
        return {
            # Kafka answers a join only when the rebalance ends, so the request must be allowed to take longer.
            **self.client_options(max(self.timeout_s, rebalance_s + 5.0)),
            **self.fetch_options(spec.topics),
            "group_id": spec.group,
            "group_instance_id": spec.instance_id,
            "partition_assignment_strategy": (RangePartitionAssignor,),
            # Where the committed offset has fallen out of the log, what is left is read; a group that starts at the
            # latest record has its start committed on first sight.
            "auto_offset_reset": "earliest",
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
            spec = self.topics.get(record.topic)
            limit = _DEFAULT_MESSAGE_BYTES if spec is None else spec.max_message_bytes
            size = record_bytes(record)
            if size > limit:
                raise RecordTooLargeError(
                    f"record {record.key!r} for topic {record.topic} has {size} bytes, where the topic takes {limit}; "
                    "send less, or raise max_message_bytes in topics.yaml and run `windhover topics apply`"
                )

    def fault(self, error: BaseException, doing: str) -> WindhoverError:
        """``error`` of aiokafka, met while ``doing`` something, as an error of ours; the text holds no secret."""
        if isinstance(error, WindhoverError):
            return error
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, _TOO_LARGE):
            return RecordTooLargeError(
                f"{self.where} refused a record while {doing} ({what}); its topic's max.message.bytes is smaller than "
                "topics.yaml declares, run `windhover topics check`"
            )
        if isinstance(error, _REFUSED):
            return SettingsError(
                f"{self.where} does not allow {doing} ({what}); check broker.sasl_username, broker.sasl_password and "
                "broker.sasl_mechanism, and the rights this user has"
            )
        return BrokerUnavailableError(
            f"{self.where}: {doing} failed ({what}); check broker.bootstrap_servers and that the broker runs, "
            "then try again"
        )

    def is_final(self, error: BaseException) -> bool:
        """Whether a transaction's ``error`` says that its producer may never write again (fenced, or out of step)."""
        passing = (*_TOO_LARGE, *_REFUSED, kafka.KafkaTimeoutError)
        return isinstance(error, kafka.KafkaError) and not error.retriable and not isinstance(error, passing)

    async def ask(self, doing: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """What ``call`` answers. Passing faults are tried again until ``request_timeout_s`` is over, then raised."""
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        for pause in pauses():
            try:
                async with asyncio.timeout_at(deadline):
                    return await call()
            except FAULTS as error:
                late = asyncio.get_running_loop().time() + pause > deadline
                if late or not getattr(error, "retriable", True):
                    raise self.fault(error, doing) from error
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.settings.security_protocol not in ("SSL", "SASL_SSL"):
            return None
        if self._ssl is None:
            try:
                self._ssl = create_ssl_context(cafile=self.settings.ssl_cafile)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(
                    f"broker.ssl_cafile: {self.settings.ssl_cafile} cannot be used ({error}); give a PEM file with the "
                    "certificates that signed the broker's"
                ) from error
        return self._ssl
