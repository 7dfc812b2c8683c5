"""The contract of model stores: inherit :class:`ModelStoreContract` and give it a fixture ``bench``.

::

    class TestMyStore(ModelStoreContract):
        @pytest.fixture
        async def bench(self, tmp_path: Path) -> AsyncIterator[ModelStoreBench]:
            bench = MyBench(tmp_path)  # derives from ModelStoreBench
            yield bench
            await bench.close()
"""

from __future__ import annotations

from standgale.testing.model_store.bench import MEGABYTE, ModelStoreBench, digest, files_below, make_model
from standgale.testing.model_store.contract import ModelStoreContract

__all__ = ["MEGABYTE", "ModelStoreBench", "ModelStoreContract", "digest", "files_below", "make_model"]
