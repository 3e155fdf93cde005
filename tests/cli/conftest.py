"""The environment of a command: no variable of bootfw is set, and the current directory is empty."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of bootfw is set."""
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def cwd(clean_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The current directory, which is empty. Times are printed in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.undo()
    time.tzset()
