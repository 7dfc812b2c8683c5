"""Creates an authority and certificates for tests in a folder, with the program openssl."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.programs import run_to_end

BROKER_HOST = "localhost"
"""The only host name in brokers' certificates."""
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")
_TIMEOUT_S = 30


@dataclass(frozen=True)
class KeyPair:
    """Names the files of one certificate."""

    authority: Path
    """The certificate of the authority that signed it (PEM)."""
    certificate: Path
    key: Path
    store: Path
    """Key and certificate in one file (PEM), as Kafka reads them."""


class Certificates:
    """Creates an authority and certificates in ``folder``; they stay, so a restarted broker keeps its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def authority(self) -> Path:
        """The certificate to trust (PEM); created on first use."""
        path = self.folder / "authority.pem"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            subject = ("-subj", "/CN=Standgale test authority")
            self._openssl("req", "-x509", *_CURVE, *_DAYS, *subject, "-keyout", "authority.key", "-out", path.name)
        return path

    def broker(self) -> KeyPair:
        """Return the pair of brokers, for the host :data:`BROKER_HOST`; create it on first use."""
        return self._pair("broker", BROKER_HOST, f"subjectAltName=DNS:{BROKER_HOST}")

    def client(self, name: str) -> KeyPair:
        """Return the pair of a client, who is the user ``name`` to the broker; create it on first use."""
        return self._pair(f"client-{name}", name, "extendedKeyUsage=clientAuth")

    def _pair(self, stem: str, common_name: str, extension: str) -> KeyPair:
        pair = KeyPair(self.authority, *(self.folder / f"{stem}.{kind}" for kind in ("pem", "key", "store")))
        if pair.store.exists():
            return pair
        request, extensions = f"{stem}.request", self.folder / f"{stem}.extensions"
        extensions.write_text(f"{extension}\n", encoding="ascii")
        self._openssl("req", *_CURVE, "-subj", f"/CN={common_name}", "-keyout", pair.key.name, "-out", request)
        signer = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial")
        files = ("-in", request, "-extfile", extensions.name, "-out", pair.certificate.name)
        self._openssl("x509", "-req", *signer, *_DAYS, *files)
        pair.store.write_text(pair.key.read_text() + pair.certificate.read_text(), encoding="ascii")
        return pair

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise KafkaServerError("openssl: not found on the PATH; a broker with TLS needs it to create certificates")
        run_to_end([program, *arguments], f"{self.folder}: openssl {arguments[0]}", _TIMEOUT_S, cwd=self.folder)
