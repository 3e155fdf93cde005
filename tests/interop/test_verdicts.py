"""Failures that are seeded into boots from a running server: ``bootfw show`` has the right verdict and cause for each.

Those of client programs that end soon are a part of every run of the tests; ``make firmware`` has the others.
"""

from pathlib import Path

import pytest

from .clientfailures import CLIENT_FAILURES
from .firmwarefailures import FIRMWARE_FAILURES
from .lab import Lab
from .seeding import MAC, Scene, SeededFailure

pytestmark = pytest.mark.interop

PATIENCE = 400
"""Seconds for a verdict: EDK2 tries one way to boot after the other. It costs time only when a test fails."""


def check(failure: SeededFailure, lab: Lab, directory: Path) -> None:
    scene = Scene(lab, directory)
    try:
        machine = failure.seed(scene) or MAC
        attempt = scene.finished_attempt(machine, PATIENCE)
        attempts = [each for each in scene.attempts() if each.client == machine]
    finally:
        scene.close()
    cause = attempt.cause
    assert (attempt.verdict.value, cause.key if cause else "") == (failure.verdict, failure.cause), attempt
    assert [word for word in failure.expected_words if cause is None or word not in cause.sentence] == [], cause
    assert (attempts[0].id, attempts[0].verdict) == (attempt.id, attempt.verdict)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(failure, id=failure.name, marks=pytest.mark.firmware if failure.slow else ())
        for failure in CLIENT_FAILURES
    ],
)
def test_failing_client_program_gets_its_verdict(lab: Lab, tmp_path: Path, failure: SeededFailure) -> None:
    check(failure, lab, tmp_path)


@pytest.mark.firmware
@pytest.mark.parametrize("failure", FIRMWARE_FAILURES, ids=lambda failure: failure.name)
def test_failing_firmware_gets_its_verdict(lab: Lab, tmp_path: Path, failure: SeededFailure) -> None:
    check(failure, lab, tmp_path)
