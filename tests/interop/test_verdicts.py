"""Failures that are seeded into boots from a running server: ``bootfw show`` has the right verdict and cause for each.

Those of client programs that end soon are a part of every run of the tests; ``make firmware`` has the others.
"""

from pathlib import Path

import pytest

from .clientfailures import CLIENT_FAILURES
from .lab import Lab
from .seeding import MAC, Scene, Seeded

pytestmark = pytest.mark.interop


def check(failure: Seeded, lab: Lab, directory: Path) -> None:
    scene = Scene(lab, directory)
    try:
        machine = failure.seed(scene) or MAC
        attempt = scene.ended(machine)
        listed = [each for each in scene.listed() if each.client == machine]
    finally:
        scene.close()
    cause = attempt.cause
    assert (attempt.verdict.value, cause.key if cause else "") == (failure.verdict, failure.cause), attempt
    assert [word for word in failure.words if cause is None or word not in cause.sentence] == [], cause
    assert (listed[0].id, listed[0].verdict) == (attempt.id, attempt.verdict)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(failure, id=failure.name, marks=pytest.mark.firmware if failure.slow else ())
        for failure in CLIENT_FAILURES
    ],
)
def test_a_client_program_that_fails(lab: Lab, tmp_path: Path, failure: Seeded) -> None:
    check(failure, lab, tmp_path)
