"""Tests that calls that fail at the same time share one diagnosis, which no caller ends for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

pytest.importorskip("aiokafka")

from infra.broker.kafka.connection import link as link_module
from infra.broker.kafka.connection.diagnosis import Diagnosis
from infra.broker.kafka.connection.link import Link
from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RefusedError


class Diagnoses:
    """Replaces the diagnosis: counts its starts, and ends when the test allows it."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def diagnose(self, settings: BrokerSettings, options: Mapping[str, object], timeout_s: float) -> Diagnosis:
        self.begun += 1
        await self.may_end.wait()
        return Diagnosis("it speaks TLS", refused=True)


@pytest.fixture
async def diagnoses(monkeypatch: pytest.MonkeyPatch) -> Diagnoses:
    diagnoses = Diagnoses()
    monkeypatch.setattr(link_module, "diagnose", diagnoses.diagnose)
    return diagnoses


def failed_calls(link: Link, count: int) -> list[asyncio.Task[Exception]]:
    return [asyncio.create_task(link.explain(TimeoutError(), f"publishing {number}")) for number in range(count)]


async def test_calls_that_fail_together_share_one_diagnosis(diagnoses: Diagnoses) -> None:
    link = Link(BrokerSettings(kind="kafka"), {})
    calls = failed_calls(link, 20)
    await asyncio.sleep(0)
    diagnoses.may_end.set()
    for number, error in enumerate(await asyncio.gather(*calls)):
        assert isinstance(error, RefusedError)
        assert str(error).endswith(f": publishing {number} failed: it speaks TLS")
    assert diagnoses.begun == 1
    assert isinstance(await link.explain(TimeoutError(), "publishing later"), RefusedError)
    assert diagnoses.begun == 2


async def test_cancelled_caller_does_not_end_the_diagnosis_of_others(diagnoses: Diagnoses) -> None:
    impatient, patient = failed_calls(Link(BrokerSettings(kind="kafka"), {}), 2)
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait({impatient})
    diagnoses.may_end.set()
    assert isinstance(await patient, RefusedError)
    assert diagnoses.begun == 1


async def test_close_ends_the_diagnosis_and_its_callers_continue(diagnoses: Diagnoses) -> None:
    link = Link(BrokerSettings(kind="kafka"), {})
    (call,) = failed_calls(link, 1)
    await asyncio.sleep(0)
    await link.close()
    assert isinstance(await call, BrokerUnavailableError)
