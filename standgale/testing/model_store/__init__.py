"""The contract of model stores: inherit :class:`ModelStoreContract` and give it a fixture ``bench``.

::

    class TestMyStore(ModelStoreContract):
        @pytest.fixture
        async def bench(self, tmp_path: Path) -> AsyncIterator[ModelStoreBench]:
            bench = MyBench(tmp_path)  # derives from ModelStoreBench
            yield bench
            await bench.close()

A store behind a network keeps :class:`TransferContract` too.
"""

from __future__ import annotations

from standgale.testing.model_store.bench import MEGABYTE, ModelStoreBench, digest, files_below, make_model
from standgale.testing.model_store.contract import ModelStoreContract
from standgale.testing.model_store.transfers import LARGE, NetworkBench, TransferContract, require_no_version

__all__ = [
    "LARGE",
    "MEGABYTE",
    "ModelStoreBench",
    "ModelStoreContract",
    "NetworkBench",
    "TransferContract",
    "digest",
    "files_below",
    "make_model",
    "require_no_version",
]
