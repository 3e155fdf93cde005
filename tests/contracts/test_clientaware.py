"""The resolvers that look up clients keep the contract of IClientAware."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.task import Clock

from bootfw.api import PluginContext
from bootfw.resolvers import loop_breaker, next_boot
from bootfw.testing import ClientAwareContract


class Configured(ClientAwareContract):
    """As the configuration makes it."""

    module: ModuleType

    @pytest.fixture(autouse=True)
    def _context(self, tmp_path: Path) -> None:
        self.context = PluginContext(reactor=Clock(), directory=tmp_path)

    def make_plugin(self) -> Any:
        return self.module.plugin.configure({}, self.context)


class TestNextBoot(Configured):
    module = next_boot


class TestLoopBreaker(Configured):
    module = loop_breaker
