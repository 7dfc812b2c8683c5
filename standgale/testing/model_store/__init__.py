"""The contract of model stores: inherit :class:`ModelStoreContract` and give it a fixture ``harness``.

::

    class TestMyStore(ModelStoreContract):
        @pytest.fixture
        async def harness(self, tmp_path: Path) -> AsyncIterator[ModelStoreHarness]:
            harness = MyHarness(tmp_path)  # derives from ModelStoreHarness
            yield harness
            await harness.close()

A store behind a network keeps :class:`TransferContract` too.
"""

from __future__ import annotations

from standgale.testing.model_store.contract import ModelStoreContract
from standgale.testing.model_store.harness import MEGABYTE, ModelStoreHarness, digest, files_below, make_model
from standgale.testing.model_store.transfers import LARGE, NetworkHarness, TransferContract, require_no_version

__all__ = [
    "LARGE",
    "MEGABYTE",
    "ModelStoreContract",
    "ModelStoreHarness",
    "NetworkHarness",
    "TransferContract",
    "digest",
    "files_below",
    "make_model",
    "require_no_version",
]
