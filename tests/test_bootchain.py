"""Configurations whose machines get iPXE and nothing after it."""

from typing import Any

import pytest
from zope.interface import implementer

from bootfw.api import BootFile, BootRefused, BootRequest, ISelectiveResolver, IUniformResolver, Settings
from bootfw.bootchain import ends_at_ipxe
from bootfw.config.settings import DHCPSettings
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.by_client import ByClient
from bootfw.resolvers.pxe_menu import PXEMenu
from bootfw.resolvers.static import StaticResolver

MENU = PXEMenu([{"description": "disk"}])
FOR_ONE_CLIENT = ByClient([{"mac": "52:54:00:00:00:01", "file": "boot.ipxe"}])


class Plugin:
    """A resolver whose answers may depend on anything."""

    def resolve(self, request: Any) -> BootFile | None:
        raise AssertionError("--check must not call it")


@implementer(ISelectiveResolver)
class Selective(Plugin):
    """A resolver that answers for few clients only."""


@implementer(IUniformResolver)
class Uniform:
    """A resolver that gives iPXE a script."""

    def resolve(self, request: BootRequest) -> BootFile | None:
        return BootFile("site.ipxe") if request.ipxe else None


@implementer(IUniformResolver)
class Refusing:
    """A resolver that refuses clients that are iPXE."""

    def resolve(self, request: BootRequest) -> BootFile | None:
        if request.ipxe:
            raise BootRefused("no iPXE here")
        return None


class Overriding(Uniform):
    """The declaration of its base class does not count for its own method."""

    def resolve(self, request: BootRequest) -> BootFile | None:
        raise AssertionError("--check must not call it")


@pytest.mark.parametrize(
    ("resolvers", "architectures"),
    [
        ([], []),
        ([ByArchitecture({"x86-bios": "undionly.kpxe"})], ["x86-bios"]),
        (
            [ByArchitecture({"x86-bios": "a/b/undionly.kpxe", "arm64-uefi": "{http}/snponly-arm64.efi"})],
            ["x86-bios", "arm64-uefi"],
        ),
        ([MENU, FOR_ONE_CLIENT, ByArchitecture({"x86_64-uefi": "ipxe.efi"})], ["x86_64-uefi"]),
        ([StaticResolver("undionly.kpxe")], ["x86-bios", "x86-uefi", "x86_64-uefi", "arm64-uefi"]),
        ([ByArchitecture({"x86-bios": "undionly.kpxe", "ipxe": "ipxe.efi"})], ["x86-bios"]),
        ([ByArchitecture({"x86-bios": "undionly.kpxe", "ipxe": "boot.ipxe"})], []),
        ([ByArchitecture({"x86-bios": "undionly.kpxe"}), StaticResolver("http://10.0.0.5/ipxe?mac=${mac}")], []),
        ([ByArchitecture({"x86-bios": "undionly.kpxe"}), ByArchitecture({"ipxe": "boot.ipxe"})], []),
        ([ByArchitecture({"x86-bios": "pxelinux.0", "x86_64-uefi": "grubx64.efi"})], []),
        ([Plugin(), ByArchitecture({"x86-bios": "undionly.kpxe"})], []),
        ([Selective(), ByArchitecture({"x86-bios": "undionly.kpxe"})], ["x86-bios"]),
        ([Uniform(), ByArchitecture({"x86-bios": "undionly.kpxe"})], []),
        ([Refusing(), ByArchitecture({"x86-bios": "undionly.kpxe"})], ["x86-bios"]),
        ([Refusing(), ByArchitecture({"x86-bios": "undionly.kpxe", "ipxe": "boot.ipxe"})], ["x86-bios"]),
        ([Overriding(), ByArchitecture({"x86-bios": "undionly.kpxe"})], []),
    ],
)
def test_architectures_without_a_file_after_ipxe_are_reported(resolvers: list[Any], architectures: list[str]) -> None:
    sentences = list(ends_at_ipxe([("resolver", resolver) for resolver in resolvers], Settings()))
    assert [sentence.split()[0] for sentence in sentences] == architectures


def test_nothing_is_reported_without_dhcp() -> None:
    resolvers = [("static", StaticResolver("undionly.kpxe"))]
    assert list(ends_at_ipxe(resolvers, Settings(dhcp=DHCPSettings(mode="off")))) == []
