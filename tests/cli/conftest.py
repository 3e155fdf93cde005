"""Where commands are given: nothing of ours in the environment, and a directory to stand in."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the environment is ours."""
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def here(bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The current directory, which is empty. Times are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.undo()
    time.tzset()
