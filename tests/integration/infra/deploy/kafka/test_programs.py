"""Tests the errors of programs that fail or do not end."""

from __future__ import annotations

import sys

import pytest

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.programs import run_to_end


def test_a_program_that_does_not_end_is_ended_with_advice() -> None:
    with pytest.raises(KafkaServerError, match=r"^mvn: waiting took longer than 0\.2 s and was ended; check the net$"):
        run_to_end([sys.executable, "-c", "import time; time.sleep(60)"], "mvn: waiting", 0.2, advice="check the net")


def test_a_program_that_fails_is_reported_with_its_last_lines() -> None:
    program = "import sys; print(*range(9), sep='\\n'); sys.exit('no room')"
    with pytest.raises(KafkaServerError, match=r"^tool failed \(exit status 1\): 6 \| 7 \| 8 \| no room$"):
        run_to_end([sys.executable, "-c", program], "tool", 20.0)
