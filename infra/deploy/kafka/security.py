"""Listeners that ask who connects: SASL with SCRAM, TLS with and without client certificates, and access lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.deploy.kafka.certificates import Certificates

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
MTLS = "MTLS"
"""The name of the listener that takes TLS with a client certificate only; the others are named by their protocol."""
_SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Security:
    """What a test broker asks of clients, besides the listener PLAINTEXT, whose clients may do everything."""

    users: Mapping[str, str] = field(default_factory=dict)
    """SCRAM users and their passwords, made when the storage is formatted."""
    acls: bool = True
    """Whether a user needs a right for what it does (see :mod:`infra.deploy.kafka.acls`)."""

    def listeners(self) -> dict[str, str]:
        """The further listeners, by name, and their protocols."""
        return {"SASL_PLAINTEXT": "SASL_PLAINTEXT", "SSL": "SSL", "SASL_SSL": "SASL_SSL", MTLS: "SSL"}

    def certificates(self, home: Path) -> Certificates:
        """The certificates below the (first node's) ``home``; made when first asked for."""
        return Certificates(home / "certificates")

    def properties(self, home: Path) -> str:
        """The lines of ``server.properties``; makes the broker's certificate."""
        pair = self.certificates(home).broker()
        lines = [f"sasl.enabled.mechanisms={','.join(SCRAM)}"]
        lines += [
            f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config={_SCRAM_MODULE}"
            for listener in ("sasl_plaintext", "sasl_ssl")
            for mechanism in SCRAM
        ]
        lines += [
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={pair.store.as_posix()}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={pair.authority.as_posix()}",
            "ssl.client.auth=none",
            f"listener.name.{MTLS.lower()}.ssl.client.auth=required",
            # "CN=name" of a client's certificate becomes the user "name".
            "ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        ]
        if self.acls:
            lines += [
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users=User:ANONYMOUS",
                "allow.everyone.if.no.acl.found=false",
            ]
        return "".join(f"{line}\n" for line in lines)

    def format_options(self) -> list[str]:
        """Options of ``StorageTool format`` that make the users."""
        return [
            option
            for name, password in self.users.items()
            for mechanism in SCRAM
            for option in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
