"""Translates aiokafka's errors to Standgale's, with what was refused or failed, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import errors as kafka

from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RecordTooLargeError, RefusedError
from schemas.errors import StandgaleError

CLIENT_ERRORS = (kafka.KafkaError, OSError, TimeoutError)
"""What a call of aiokafka raises because of Kafka or the network."""

UNREACHED = (
    kafka.KafkaConnectionError,
    kafka.NodeNotReadyError,
    kafka.KafkaTimeoutError,
    kafka.RequestTimedOutError,
    OSError,
    TimeoutError,
)
"""Errors whose reason aiokafka writes to its log only."""
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
_SPECIFIC: tuple[type[BaseException], ...] = (*_TOO_LARGE, *_NO_RIGHT, *_NO_ENTRY, kafka.InvalidTimestampError)
"""Errors that show what to do; they can be the cause of others, which do not."""
_LIST_OF_ADDRESSES = "Unable to bootstrap"
"""The start of aiokafka's error that continues with a list of Python's address constants."""


class ErrorTranslator:
    """Translates errors for one broker and the user in the settings."""

    def __init__(self, where: str, settings: BrokerSettings) -> None:
        self._where = where
        if settings.security_protocol.startswith("SASL_"):
            self._user = f"user {settings.sasl_username}"
        else:
            self._user = "the anonymous user" if settings.ssl_certfile is None else "the name in broker.ssl_certfile"

    def error(self, error: BaseException, doing: str, right: str = "DESCRIBE") -> StandgaleError:
        """Return Standgale's error for aiokafka's ``error``, raised while ``doing`` something; the text has no secret.

        ``right`` is the right on a topic that is needed for it.
        """
        if isinstance(error, StandgaleError):
            return error
        root = _most_specific(error)
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
                f"{self._where} refused {doing}: this machine's clock is too far from the broker's ({what}); correct "
                "the clocks, and run `standgale topics apply`, so that the topics use the broker's time"
            )
        if isinstance(error, kafka.KafkaConnectionError) and _LIST_OF_ADDRESSES in what:
            what = "no broker could be reached"
        return BrokerUnavailableError(
            f"{self._where}: {doing} failed ({what}); check broker.bootstrap_servers and that the broker runs, "
            "then try again"
        )


def raise_for(code: int, text: str) -> None:
    """Raise aiokafka's error for a ``code`` in a response of Kafka; 0 is none."""
    if code:
        raise kafka.for_code(code)(text)


def is_final(error: BaseException) -> bool:
    """Return whether a transaction's ``error`` means that its producer can never write again."""
    passing = (*_SPECIFIC, kafka.KafkaTimeoutError)
    return (
        isinstance(error, kafka.KafkaError) and not error.retriable and not isinstance(_most_specific(error), passing)
    )


def _most_specific(error: BaseException) -> BaseException:
    """Return the error among ``error`` and its causes that shows what to do; ``error`` itself when none does."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _SPECIFIC):
            return seen
        seen = seen.__cause__
    return error


def _right(error: BaseException, on_topic: str) -> str:
    """Return the right that is missing according to Kafka's ``error``."""
    named = ", ".join(sorted(_names(error.args)))
    if isinstance(error, kafka.TopicAuthorizationFailedError):
        return f"{on_topic} on topic {named}".rstrip()
    if isinstance(error, kafka.GroupAuthorizationFailedError):
        return f"READ on group {named}".rstrip()
    if isinstance(error, kafka.TransactionalIdAuthorizationFailed):
        return f"WRITE on transactional id {named}".rstrip()
    return "WRITE on any topic, or IDEMPOTENT_WRITE on the cluster, or (to change topics) CREATE and ALTER"


def _names(argument: object) -> set[str]:
    """Return all texts in ``argument``: aiokafka names a topic by its name, a set of names, or a partition."""
    if isinstance(argument, str):
        return {argument}
    return {name for each in argument for name in _names(each)} if isinstance(argument, Iterable) else set()
