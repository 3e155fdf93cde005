"""Fixtures of the interop tests, and what a report of theirs adds: logs of the lab, time spent waiting for a slot."""

import random
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from schedule import MACHINE

from .clients import FILES, TEXT
from .lab import Lab
from .slots import Slot


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Lab):
            if report.failed:
                report.sections.extend(value.logs())
            if value.slot is not None and value.slot.is_taken:
                report.user_properties.append((MACHINE, value.slot.waited_seconds))
    return report


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A segment with no hosts yet, for one test."""
    with Lab(tmp_path_factory.mktemp("lab"), Slot()) as lab:
        yield lab


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with FILES, of random bytes, and TEXT, of letters and line ends in any order."""
    root = tmp_path_factory.mktemp("served")
    for name, size in FILES.items():
        (root / name).write_bytes(random.randbytes(size))
    (root / TEXT).write_bytes(bytes(random.choices(b"ab\r\n", k=100_000)))
    return root
