"""What a machine loads after iPXE, as far as the configuration decides that."""

from collections.abc import Iterator, Sequence
from typing import Any

from bootfw.config.settings import Settings
from bootfw.personas.table import stock
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.by_client import ByClient
from bootfw.resolvers.callout import Callout
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.resolvers.next_boot import NextBoot
from bootfw.resolvers.pxe_menu import PXEMenu
from bootfw.resolvers.static import StaticResolver
from bootfw.values import BootRequest

_ARCHITECTURES = ("x86-bios", "x86-uefi", "x86_64-uefi", "arm64-uefi")

_FOR_EVERY_MACHINE = (ByArchitecture, StaticResolver)
_FOR_SOME_MACHINES = (ByClient, Callout, LoopBreaker, NextBoot, PXEMenu)
"""Others are plugins, of which it is not known what they answer."""


def ends_at_ipxe(resolvers: Sequence[tuple[str, Any]], settings: Settings) -> Iterator[str]:
    """A sentence for each architecture whose machines get iPXE, and then nothing that iPXE can go on with.

    :param resolvers: (name, resolver), in their order.
    """
    if settings.dhcp.mode == settings.dhcp6.mode == "off":
        return
    is_ipxe_program = stock().with_own(settings.persona).is_ipxe_program
    if not all(isinstance(resolver, (*_FOR_EVERY_MACHINE, *_FOR_SOME_MACHINES)) for _, resolver in resolvers):
        return
    usual = [resolver for _, resolver in resolvers if isinstance(resolver, _FOR_EVERY_MACHINE)]
    for architecture in _ARCHITECTURES:
        program = next(_names(usual, architecture, ipxe=False), "")
        if is_ipxe_program(_last_part(program)) and all(
            is_ipxe_program(_last_part(name)) for name in _names(usual, architecture, ipxe=True)
        ):
            yield (
                f"{architecture} machines load {program}, which is iPXE, and iPXE is then given nothing to go on with: "
                'name its script, with by-architecture as [resolver.files] "ipxe" = "boot.ipxe"'
            )


def _names(resolvers: Sequence[Any], architecture: str, *, ipxe: bool) -> Iterator[str]:
    request = BootRequest("", "discover", "ipxe" if ipxe else "", architecture, ipxe=ipxe)
    for resolver in resolvers:
        file = resolver.resolve(request)
        if file is not None:
            yield file.name


def _last_part(name: str) -> str:
    return name.partition("?")[0].replace("\\", "/").rpartition("/")[2]
