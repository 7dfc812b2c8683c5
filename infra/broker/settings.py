"""Defines the settings of the broker: which one, and how to reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import PositiveSeconds, Section


class BrokerSettings(Section):
    """Says which broker carries the events, and how to reach it."""

    section = "broker"

    kind: Literal["embedded", "kafka"] = Field(default="embedded", description="embedded: one SQLite file in DATA_DIR")
    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="kafka: host:port, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="kafka"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(default="PLAIN", description="kafka")
    sasl_username: str | None = Field(default=None, description="kafka")
    sasl_password: SecretStr | None = Field(default=None, description="a file is read again for each new connection")
    ssl_cafile: Path | None = Field(default=None, description="PEM file; none: the certificates of this machine")
    ssl_certfile: Path | None = Field(default=None, description="PEM file with this client's certificate")
    ssl_keyfile: Path | None = Field(default=None, description="PEM file with the key of ssl_certfile")
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="when the key is encrypted")
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        default="lz4", description="kafka: of published batches"
    )
    request_timeout_s: PositiveSeconds = Field(default=20.0, description="the time limit for a request")
    replication: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="overrides every topic's replication (a one-node cluster needs 1)"
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
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            missing = "ssl_certfile" if self.ssl_certfile is None else "ssl_keyfile"
            raise ValueError(f"{self.named(missing)}: missing while the other one is given; give both, or neither")
        return self
