"""The built-in watchdog policies keep the contract that the kit checks for strangers."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bootfw.api import PluginContext
from bootfw.testing import WatchdogContract
from bootfw.watchdogs import adaptive, exponential, fixed, hpa


class Configured(WatchdogContract):
    """Through the door that the configuration uses."""

    module: ModuleType
    options: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _context(self, tmp_path: Path) -> None:
        self.context = PluginContext(reactor=None, directory=tmp_path)

    def make_policy(self) -> Any:
        return self.module.plugin.configure(self.options, self.context)


class TestFixed(Configured):
    module = fixed


class TestFixedOne(Configured):
    module = fixed
    options = {"seconds": [0.25]}


class TestHPA(Configured):
    module = hpa


class TestExponential(Configured):
    module = exponential


class TestExponentialSlow(Configured):
    module = exponential
    options = {"first-seconds": 0.05, "factor": 1.0, "give-up-after-seconds": 30.0}


class TestAdaptive(Configured):
    module = adaptive


class TestAdaptiveImpatient(Configured):
    module = adaptive
    options = {"patience-seconds": 5.0}
