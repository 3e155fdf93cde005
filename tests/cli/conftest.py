"""Where commands are given: nothing of ours in the environment, and a directory to stand in."""

import os
import time

import pytest


@pytest.fixture
def bare(monkeypatch):
    """No variable of the environment is ours."""
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def here(bare, monkeypatch, tmp_path):
    """The current directory, which is empty. Times are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.undo()
    time.tzset()
