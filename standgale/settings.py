"""Composes the settings of a process from the sections of all packages: one frozen object, built once in ``main``.

Read from the environment (``STANDGALE_GATEWAY__PORT=8000``) and, below it, from a YAML file named by
``STANDGALE_CONFIG`` or ``--config``. No other module reads settings from the environment. Units are in the names.
Secrets mask themselves and can be given as files too (``STANDGALE_DATABASE__URL_FILE=/run/secrets/url``). An empty
variable means "not given"; ``none`` means "no value", where a setting may have none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from console.datasets.settings import DatasetSettings
from console.inference_settings import InferenceJobsSettings
from console.media.settings import MediaSettings
from console.settings import ConsoleSettings
from detectors.settings import DetectorSettings, ModelStoreSettings
from infra.broker.settings import BrokerSettings
from infra.consuming.settings import BatchSettings
from infra.database.settings import DatabaseSettings
from infra.encryption.settings import EncryptionSettings
from infra.failure.settings import RetrySettings
from infra.process.http_settings import HttpSettings
from infra.process.settings_reference import Setting, describe_settings, markdown_table
from infra.process.settings_sources import CONFIG_VARIABLE, read_settings
from infra.sections import Section
from infra.storage.settings import FrameSettings
from infra.telemetry.settings import TelemetrySettings
from ingest.edge.settings import EdgeSettings
from ingest.limits.settings import LimitsSettings
from ingest.replay.settings import ReplayLakeFsSettings, ReplayS3Settings, ReplaySettings
from ingest.settings import GatewaySettings, VideoSettings
from ingest.sources.settings import SourcesSettings
from ingest.stream.settings import StreamSettings
from sinks.annotations.settings import AnnotationsSettings
from sinks.lakefs.settings import LakeFsSettings
from sinks.mqtt.settings import MqttSettings
from sinks.retention.settings import RetentionSettings
from sinks.settings import SseSettings, SystemMetricsSettings
from sinks.statistics.settings import StatisticsSettings
from sinks.webhooks.settings import WebhookSettings


class Settings(Section):
    """Holds every setting of one process; ``Settings()`` has the defaults."""

    data_dir: Path = Field(default=Path(".standgale"), description="the folder of the embedded parts")
    topics_file: Path | None = Field(default=None, description="a topics.yaml; default the one that ships")
    broker: BrokerSettings = BrokerSettings()
    frames: FrameSettings = FrameSettings()
    models: ModelStoreSettings = ModelStoreSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitsSettings = LimitsSettings()
    stream: StreamSettings = StreamSettings()
    video: VideoSettings = VideoSettings()
    sources: SourcesSettings = SourcesSettings()
    console: ConsoleSettings = ConsoleSettings()
    inference_jobs: InferenceJobsSettings = InferenceJobsSettings()
    webhooks: WebhookSettings = WebhookSettings()
    media: MediaSettings = MediaSettings()
    annotations: AnnotationsSettings = AnnotationsSettings()
    datasets: DatasetSettings = DatasetSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    edge: EdgeSettings = EdgeSettings()
    replay: ReplaySettings = ReplaySettings()
    replay_s3: ReplayS3Settings = ReplayS3Settings()
    replay_lakefs: ReplayLakeFsSettings = ReplayLakeFsSettings()
    detector: DetectorSettings = DetectorSettings()
    sinks: BatchSettings = BatchSettings()
    sse: SseSettings = SseSettings()
    system_metrics: SystemMetricsSettings = SystemMetricsSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    retention: RetentionSettings = RetentionSettings()
    mqtt: MqttSettings = MqttSettings()
    lakefs: LakeFsSettings = LakeFsSettings()
    retry: RetrySettings = RetrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def engines_folder(self) -> Path:
        """The folder of the measurements: how models run fastest on this machine."""
        return self.data_dir / "engines"

    @property
    def rules_folder(self) -> Path:
        """The folder of the rules that jobs may name."""
        return self.console.rules or self.data_dir / "rules"

    @property
    def datasets_folder(self) -> Path:
        """The folder of the data sets, when they are kept in one."""
        return self.datasets.folder or self.data_dir / "datasets"

    @property
    def frames_folder(self) -> Path:
        """The folder of the frame store, when it is one."""
        return self.frames.folder or self.data_dir / "frames"

    @property
    def edge_spool(self) -> Path:
        """The folder in which the edge client keeps frames until they are sent."""
        return self.edge.spool or self.data_dir / "edge"

    @property
    def source_logins(self) -> Path:
        """The folder with the logins of sources."""
        return self.sources.logins or self.data_dir / "source-logins"

    @property
    def model_cache(self) -> Path:
        """The folder of the models fetched from the model store, and of the engine artefacts built from them."""
        return self.models.cache or self.data_dir / "model-cache"


def load_settings(config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of this process: ``overrides`` (by dotted path) over environment over file over defaults.

    The file is ``config``, else the one that STANDGALE_CONFIG names, else none. Raises SettingsError that names every
    wrong setting, as variable and as path, with the value received (secrets masked) and what it takes.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    source = config or (Path(named) if named else None)
    return read_settings(Settings, environ=os.environ, config=source, overrides=overrides or {})


def settings_reference() -> list[Setting]:
    """Return every setting, in the order of declaration."""
    return list(describe_settings(Settings).values())


def settings_markdown() -> str:
    """Return the settings as a Markdown table for the documentation."""
    return markdown_table(Settings)
