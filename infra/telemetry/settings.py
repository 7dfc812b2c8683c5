"""Defines the settings of logs, traces, the health page and the end of a process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.sections import Port, PositiveSeconds, Section


class TelemetrySettings(Section):
    """Says how a process logs, traces, reports its health and stops."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="the least severe lines that are logged"
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json for machines, text for people")
    otlp_endpoint: str | None = Field(
        default=None, description="for example http://tempo:4318; none: no traces are sent"
    )
    trace_sample_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=1.0, description="the share of new traces that are kept; for a caller's trace the caller decides"
    )
    health_host: str = Field(default="127.0.0.1", description="the address to listen on; 0.0.0.0 for all")
    health_port: Port = Field(default=9090, description="/health/live, /health/ready, /metrics; 0 takes a free port")
    drain_timeout_s: PositiveSeconds = Field(
        default=25.0, description="how long a process that is stopped may finish what is in progress"
    )
    silence_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=120.0, description="a working part that reports nothing for so long makes the process not live"
    )
