"""aiokafka's errors in Standgale's words: what was refused or failed, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import errors as kafka

from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError
from schemas.errors import StandgaleError

FAULTS = (kafka.KafkaError, OSError, TimeoutError)
"""What a call of aiokafka raises when Kafka, or the way to it, is at fault."""

UNREACHED = (
    kafka.KafkaConnectionError,
    kafka.NodeNotReadyError,
    kafka.KafkaTimeoutError,
    kafka.RequestTimedOutError,
    OSError,
    TimeoutError,
)
"""Faults whose reason aiokafka keeps to its log."""
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_NO_RIGHT = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
_NO_ENTRY = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
_TELLING: tuple[type[BaseException], ...] = (*_TOO_LARGE, *_NO_RIGHT, *_NO_ENTRY, kafka.InvalidTimestampError)
"""Faults that say what to do; they can be the cause of others, which do not."""
_LIST_OF_ADDRESSES = "Unable to bootstrap"
"""How aiokafka's error begins that goes on with a list of Python's address constants."""


class ErrorTranslator:
    """Makes errors for one broker and the user that the settings name."""

    def __init__(self, where: str, settings: BrokerSettings) -> None:
        self._where = where
        if settings.security_protocol.startswith("SASL_"):
            self._user = f"user {settings.sasl_username}"
        else:
            self._user = "the anonymous user" if settings.ssl_certfile is None else "the name in broker.ssl_certfile"

    def fault(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """``error`` of aiokafka, met while ``doing`` something, as an error of ours; the text holds no secret.

        ``right`` is what that takes on a topic.
        """
        if isinstance(error, StandgaleError):
            return error
        root = _telling(error)
        what = f"{type(root).__name__}: {root}".rstrip(": ")
        if isinstance(root, _TOO_LARGE):
            return RecordTooLargeError(
                f"{self._where} refused a record while {doing} ({what}); its topic's max.message.bytes is smaller than "
                "topics.yaml declares, run `standgale topics check`"
            )
        if isinstance(root, _NO_RIGHT):
            return RefusedError(
                f"{self._where} does not allow {doing}: {self._user} lacks the right {_right(root, right)}; grant it "
                "(docs/operations.md lists the rights of each service), nothing needs a restart"
            )
        if isinstance(root, _NO_ENTRY):
            return RefusedError(
                f"{self._where} refuses {self._user} while {doing} ({what}); check broker.sasl_username, "
                "broker.sasl_password and broker.sasl_mechanism"
            )
        if isinstance(root, kafka.InvalidTimestampError):
            return RefusedError(
                f"{self._where} refused {doing}: this machine's clock is too far from the broker's ({what}); set the "
                "clocks right, and run `standgale topics apply`, so that the topics take the broker's time"
            )
        if isinstance(error, kafka.KafkaConnectionError) and _LIST_OF_ADDRESSES in what:
            what = "no broker could be reached"
        return BrokerUnavailableError(
            f"{self._where}: {doing} failed ({what}); check broker.bootstrap_servers and that the broker runs, "
            "then try again"
        )


def raise_for(code: int, text: str) -> None:
    """Raise aiokafka's error for a ``code`` in an answer of Kafka; 0 is none."""
    if code:
        raise kafka.for_code(code)(text)


def is_final(error: BaseException) -> bool:
    """Whether a transaction's ``error`` says that its producer may never write again (fenced, or out of step)."""
    passing = (*_TELLING, kafka.KafkaTimeoutError)
    return isinstance(error, kafka.KafkaError) and not error.retriable and not isinstance(_telling(error), passing)


def _telling(error: BaseException) -> BaseException:
    """The error among ``error`` and its causes that says what to do; ``error`` itself where none does."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _TELLING):
            return seen
        seen = seen.__cause__
    return error


def _right(error: BaseException, on_topic: str) -> str:
    """Which right Kafka's ``error`` says is missing."""
    named = ", ".join(sorted(_names(error.args)))
    if isinstance(error, kafka.TopicAuthorizationFailedError):
        return f"{on_topic} on topic {named}".rstrip()
    if isinstance(error, kafka.GroupAuthorizationFailedError):
        return f"READ on group {named}".rstrip()
    if isinstance(error, kafka.TransactionalIdAuthorizationFailed):
        return f"WRITE on transactional id {named}".rstrip()
    return "WRITE on any topic, or IDEMPOTENT_WRITE on the cluster, or (to change topics) CREATE and ALTER"


def _names(told: object) -> set[str]:
    """All texts in ``told``: aiokafka tells of a topic by its name, a set of names, or a partition with its number."""
    if isinstance(told, str):
        return {told}
    return {name for each in told for name in _names(each)} if isinstance(told, Iterable) else set()
