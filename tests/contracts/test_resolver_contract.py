"""The built-in resolvers keep the contract that the kit checks for strangers."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bootfw.api import PluginContext
from bootfw.resolvers import by_architecture, by_client, static
from bootfw.testing import ResolverContract


class Configured(ResolverContract):
    """Through the door that the configuration uses."""

    module: ModuleType
    options: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _context(self, tmp_path: Path) -> None:
        self.context = PluginContext(reactor=None, directory=tmp_path)

    def make_resolver(self) -> Any:
        return self.module.plugin.configure(self.options, self.context)


class TestStatic(Configured):
    module = static
    options = {"file": "http://{server}/{mac}.ipxe"}


class TestByArchitecture(Configured):
    module = by_architecture
    options = {
        "files": {"x86-bios": "undionly.kpxe", "x86_64-uefi": "snponly.efi", "ipxe": "http://{server}/boot.ipxe"}
    }


class TestByArchitectureWithoutScript(Configured):
    module = by_architecture
    options = {"files": {"x86-bios": "undionly.kpxe", "arm64-uefi": "{uuid}/grub.efi"}}


class TestByClient(Configured):
    module = by_client
    options = {
        "clients": [
            {"mac": "52-54-00-12-34-56", "relay": "198.51.100.1", "file": "relayed/{mac}"},
            {"uuid": "00000000-0000-0000-0000-000000000001", "file": "pxelinux.0"},
        ]
    }
