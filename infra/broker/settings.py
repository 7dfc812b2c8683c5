"""Defines the settings of the broker: which one, and how to reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import PositiveSeconds, Section


class BrokerSettings(Section):
    """Says which broker carries the events, and how to reach it."""

    section = "broker"

    kind: Literal["embedded", "kafka"] = Field(
        default="embedded", description="which broker carries the events; embedded: one SQLite file in DATA_DIR"
    )
    bootstrap_servers: str = Field(
        default="127.0.0.1:9092", description="kafka: its servers, host:port, comma separated"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="kafka: encryption of connections (SSL) and login (SASL)"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="kafka: how the login with SASL is done"
    )
    sasl_username: str | None = Field(default=None, description="kafka: the user of the login with SASL")
    sasl_password: SecretStr | None = Field(
        default=None,
        description="kafka: the password of the login with SASL; a file is read again for each new connection",
    )
    ssl_cafile: Path | None = Field(
        default=None, description="kafka: PEM file of trusted certificates; none: those of this machine"
    )
    ssl_certfile: Path | None = Field(default=None, description="kafka: PEM file with this client's certificate")
    ssl_keyfile: Path | None = Field(default=None, description="kafka: PEM file with the key of ssl_certfile")
    ssl_keyfile_password: SecretStr | None = Field(
        default=None, description="kafka: the password of ssl_keyfile, when the key is encrypted"
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        default="lz4", description="kafka: how published batches are compressed"
    )
    request_timeout_s: PositiveSeconds = Field(default=20.0, description="kafka: the time limit for a request")
    replication: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="kafka: copies of each topic, overrides topics.yaml (a single node needs 1)"
    )

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        wanted = self.kind == "kafka" and self.security_protocol.startswith("SASL_")
        if wanted and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(
                f"{self.named('sasl_username', 'sasl_password')}: both are needed when broker.security_protocol is "
                f"{self.security_protocol}"
            )
        return self

    @model_validator(mode="after")
    def _certificate(self) -> Self:
        self.require_both("ssl_certfile", "ssl_keyfile")
        return self
