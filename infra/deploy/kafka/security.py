"""Configures listeners of a test broker that authenticate clients: SASL with SCRAM, TLS, and access lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.deploy.kafka.certificates import Certificates

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
MTLS = "MTLS"
"""The name of the listener that requires a client certificate; the others are named by their protocol."""
_SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Security:
    """Says how a test broker authenticates clients; those of its listener PLAINTEXT may do everything."""

    users: Mapping[str, str] = field(default_factory=dict)
    """SCRAM users and their passwords, created when the storage is formatted."""
    acls: bool = True
    """Whether a user needs a right for what it does (see :mod:`infra.deploy.kafka.acls`)."""

    def listeners(self) -> dict[str, str]:
        """Return the additional listeners, by name, and their protocols."""
        return {"SASL_PLAINTEXT": "SASL_PLAINTEXT", "SSL": "SSL", "SASL_SSL": "SASL_SSL", MTLS: "SSL"}

    def certificates(self, home: Path) -> Certificates:
        """Return the certificates in the (first node's) ``home``; they are created on first use."""
        return Certificates(home / "certificates")

    def properties(self, home: Path) -> str:
        """Return the lines for ``server.properties``; create the broker's certificate."""
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
        """Return options of ``StorageTool format`` that create the users."""
        return [
            option
            for name, password in self.users.items()
            for mechanism in SCRAM
            for option in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
