"""The built-in resolvers keep the contract that the kit checks for strangers."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.task import Clock

from bootfw.api import PluginContext
from bootfw.resolvers import by_architecture, by_client, loop_breaker, next_boot, pxe_menu, static
from bootfw.testing import (
    ListableResolverContract,
    OperableContract,
    PluginContract,
    ResolverContract,
    StartableContract,
    UniformResolverContract,
)


class Configured(ResolverContract):
    """Through the door that the configuration uses."""

    module: ModuleType
    options: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _context(self, tmp_path: Path) -> None:
        self.context = PluginContext(reactor=None, directory=tmp_path)

    def make_resolver(self) -> Any:
        return self.module.plugin.configure(self.options, self.context)


class TestStatic(Configured, UniformResolverContract, ListableResolverContract):
    module = static
    options = {"file": "http://{server}/{mac}.ipxe"}


class TestByArchitecture(Configured, UniformResolverContract, ListableResolverContract):
    module = by_architecture
    options = {
        "files": {"x86-bios": "undionly.kpxe", "x86_64-uefi": "snponly.efi", "ipxe": "http://{server}/boot.ipxe"}
    }


class TestByArchitectureWithoutScript(Configured, UniformResolverContract, ListableResolverContract):
    module = by_architecture
    options = {"files": {"x86-bios": "undionly.kpxe", "arm64-uefi": "{uuid}/grub.efi"}}


class TestByClient(Configured, ListableResolverContract):
    module = by_client
    options = {
        "clients": [
            {"mac": "52-54-00-12-34-56", "relay": "198.51.100.1", "file": "relayed/{mac}"},
            {"uuid": "00000000-0000-0000-0000-000000000001", "file": "pxelinux.0"},
        ]
    }


class TestPXEMenu(Configured, UniformResolverContract, ListableResolverContract):
    module = pxe_menu
    options = {"items": [{"description": "Install", "file": "install/pxelinux.0"}, {"description": "Local disk"}]}


class TestNextBoot(Configured, StartableContract, OperableContract):
    module = next_boot

    def make_plugin(self) -> Any:
        return self.module.plugin.configure({}, PluginContext(Clock(), self.context.directory))

    def make_resolver(self) -> Any:
        resolver = self.make_plugin()
        resolver.start(lambda event: None)
        return resolver


class TestLoopBreaker(TestNextBoot):
    module = loop_breaker


class TestPluginOfByArchitecture(PluginContract):
    plugin = by_architecture.plugin
    options = TestByArchitecture.options
    mistakes = {"files": {"x86": "undionly.kpxe"}, "server": "localhost"}


class TestPluginOfLoopBreaker(PluginContract):
    plugin = loop_breaker.plugin
    mistakes = {"repeats": 1, "within-seconds": 0, "local-seconds": "600"}
