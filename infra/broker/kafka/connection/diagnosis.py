"""Finds out why Kafka cannot be reached: connects to each address once, and describes what is wrong.

aiokafka writes the reasons to its log only, and raises the same error for all of them.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass

from aiokafka import errors as kafka
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from infra.broker.settings import BrokerSettings

_NAME_MISMATCH = (62, 64)
"""OpenSSL's numbers for a certificate that is for another host name, or for another address."""
_EXPIRED = 10
_OUR_CERTIFICATE = re.compile("ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
"""OpenSSL's reasons when the other side ends a connection because of this client's certificate, or its absence."""
_CREDENTIALS = (kafka.AuthenticationFailedError, kafka.SaslAuthenticationFailed)
_NO_RESPONSE = (kafka.KafkaError, OSError, TimeoutError, EOFError, ValueError, AssertionError)
"""What aiokafka raises when there is no response, or one from a server that is not Kafka."""
_CONNECTION = ("security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Describes what is wrong."""

    text: str
    refused: bool
    """Whether it stays wrong until a person changes something; otherwise it may pass without a change."""


async def diagnose(settings: BrokerSettings, options: Mapping[str, object], timeout_s: float) -> Diagnosis | None:
    """Return why the brokers in ``settings``, or those that the cluster names, cannot be used; None: nothing is wrong.

    ``options`` are those of an aiokafka client.
    """
    prober = _Prober(settings, {name: options[name] for name in _CONNECTION}, timeout_s)
    named = [(host, port) for host, port, _ in collect_hosts(settings.bootstrap_servers)]
    found = await asyncio.gather(*(prober.probe(address) for address in named))
    diagnoses = [each for each in found if isinstance(each, Diagnosis)]
    if len(diagnoses) < len(found):
        # aiokafka needs one of these to work; then it uses the addresses that the cluster names.
        others = {address for each in found if not isinstance(each, Diagnosis) for address in each} - set(named)
        found = await asyncio.gather(*(prober.probe(address) for address in sorted(others)))
        diagnoses = [each for each in found if isinstance(each, Diagnosis) and each.refused]
    return min(diagnoses, key=lambda diagnosis: not diagnosis.refused, default=None)


class _Prober:
    """Connects to an address as a client does."""

    def __init__(self, settings: BrokerSettings, connection: Mapping[str, object], timeout_s: float) -> None:
        self._settings = settings
        self._connection = connection
        self._timeout_s = timeout_s

    async def probe(self, address: Address) -> list[Address] | Diagnosis:
        """Return the addresses that the cluster names, or why ``address`` cannot be used."""
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await create_conn(
                    *address, request_timeout_ms=int(1000 * self._timeout_s), **self._connection
                )
                response = await connection.send(MetadataRequest([]))
            return [(host, port) for _, host, port, *_ in response.brokers]
        except _NO_RESPONSE as error:
            return self._known(error, _named(address)) or await self._by_protocol(error, address)
        finally:
            if connection is not None:
                connection.close()

    def _known(self, error: BaseException, where: str) -> Diagnosis | None:
        """Return the diagnosis that follows from the error alone, if there is one."""
        for each in _chain(error):
            if refused := self._refused(each, where):
                return Diagnosis(refused, refused=True)
            if isinstance(each, socket.gaierror):
                return Diagnosis(
                    f"the host name in {where} is not known; check broker.bootstrap_servers", refused=False
                )
            if isinstance(each, ConnectionRefusedError):
                return Diagnosis(f"nothing listens at {where} (connection refused)", refused=False)
        return None

    def _refused(self, error: BaseException, where: str) -> str | None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._about_certificate(error, where)
        if isinstance(error, ssl.SSLError) and _OUR_CERTIFICATE.search(error.reason or ""):
            return (
                f"{where} requires a client certificate and refuses this one ({error.reason}); set "
                "broker.ssl_certfile and broker.ssl_keyfile to a pair that the broker's truststore knows"
            )
        if isinstance(error, _CREDENTIALS):
            return f"{where} refuses the user or the password; check broker.sasl_username and broker.sasl_password"
        if isinstance(error, kafka.UnsupportedSaslMechanismError):
            mechanism = self._settings.sasl_mechanism
            return f"{where} does not know broker.sasl_mechanism {mechanism}; set one that the broker offers"
        if isinstance(error, kafka.IllegalSaslStateError):
            return self._protocol_text(where, "expects no user and password")
        return None

    def _about_certificate(self, error: ssl.SSLCertVerificationError, where: str) -> str:
        if error.verify_code in _NAME_MISMATCH:
            return (
                f"the certificate of {where} is not for this host name; in broker.bootstrap_servers, and in the "
                "broker's advertised.listeners, use a name that the certificate holds"
            )
        if error.verify_code == _EXPIRED:
            return f"the certificate of {where} has expired; renew it on the broker"
        given = self._settings.ssl_cafile or "the certificates of this machine"
        return (
            f"the certificate of {where} is not signed by any authority in {given} ({error.verify_message}); set "
            "broker.ssl_cafile to the certificates that signed it"
        )

    async def _by_protocol(self, error: BaseException, address: Address) -> Diagnosis:
        """Find out why a broker does not respond or closes the connection: it may use a different protocol."""
        where = _named(address)
        if isinstance(error, TimeoutError):
            return Diagnosis(f"{where} did not respond within {self._timeout_s:g} s", refused=False)
        tls = self._settings.security_protocol in ("SSL", "SASL_SSL")
        if tls and await self._within(self._speaks_plainly(address)):
            return Diagnosis(self._protocol_text(where, "speaks without TLS"), refused=True)
        if not tls and await self._within(_speaks_tls(address)):
            return Diagnosis(self._protocol_text(where, "speaks TLS"), refused=True)
        if "SASL" not in self._settings.security_protocol and await self._within(self._wants_user(address)):
            return Diagnosis(self._protocol_text(where, "closes connections without user and password"), refused=True)
        return Diagnosis(f"{where} closed the connection ({type(error).__name__})", refused=False)

    def _protocol_text(self, where: str, does: str) -> str:
        return (
            f"the listener at {where} {does}, while broker.security_protocol is {self._settings.security_protocol}; "
            "set broker.security_protocol to the one of this listener, or use the port of another listener"
        )

    async def _speaks_plainly(self, address: Address) -> bool:
        """Return whether a Kafka broker responds there without TLS."""
        connection = await create_conn(*address, request_timeout_ms=int(1000 * self._timeout_s))
        connection.close()
        return True

    async def _wants_user(self, address: Address) -> bool:
        """Return whether the broker there expects a user and a password."""
        connection = await create_conn(*address, request_timeout_ms=int(1000 * self._timeout_s), **self._connection)
        try:
            response = await connection.send(SaslHandShakeRequest("SCRAM-SHA-512"))
            return bool(response.error_code != kafka.IllegalSaslStateError.errno)
        finally:
            connection.close()

    async def _within(self, question: Coroutine[None, None, bool]) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await question
        except _NO_RESPONSE:
            return False


async def _speaks_tls(address: Address) -> bool:
    """Return whether a server responds there with TLS, with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*address, ssl=context)
    writer.close()
    return True


def _named(address: Address) -> str:
    host, port = address
    return f"{host}:{port}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and its causes."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
