"""docs/howto/why-did-it-not-boot.md prints what ``bootfw show`` prints."""

import time
from collections.abc import Iterator

import pytest
from howtocases import cases
from howtos import blocks

from bootfw.cli.boots import timeline


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_boots_of_the_howto() -> None:
    assert blocks("why-did-it-not-boot.md", "") == [f"{timeline(attempt)}\n" for attempt in cases().values()]
