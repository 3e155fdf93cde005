"""The built-in observers keep the contract that the kit checks for strangers."""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from bootfw.api import Client, LogObserver, PluginContext
from bootfw.observe import webhook
from bootfw.testing import ClientAwareContract, ObserverContract, StartableContract
from bootfw.testing.contracts.observer import every_event


def test_the_kit_has_an_event_of_each_kind_with_and_without_what_is_optional() -> None:
    events = every_event()
    kinds = {type(event) for event in events}
    assert len(kinds) > 40
    assert len(events) == 2 * len(kinds)


class TestLog(ObserverContract, ClientAwareContract):
    def make_observer(self) -> LogObserver:
        observer = LogObserver()
        observer.set_client_lookup(lambda peer: Client(peer[0]))
        return observer

    def make_plugin(self) -> LogObserver:
        return LogObserver()


class TestWebhook(ObserverContract, StartableContract, ClientAwareContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def make_plugin(self) -> Any:
        self.reactor = MemoryReactorClock()
        context = PluginContext(self.reactor, self.directory)
        return webhook.plugin.configure({"url": "http://192.0.2.1/hook"}, context)

    def make_observer(self) -> Any:
        observer = self.make_plugin()
        observer.set_client_lookup(lambda peer: Client(peer[0]))
        return observer

    def wait(self, deferred: object) -> None:
        for _ in range(100):
            self.reactor.advance(1)
