"""Checks the boot chain: finds architectures whose clients load iPXE, but whose iPXE gets no script."""

from collections.abc import Iterator, Sequence

from bootfw.ability import provides
from bootfw.config.settings import Settings
from bootfw.errors import BootRefused
from bootfw.interfaces import IBootFileResolver, ISelectiveResolver, IUniformResolver
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootRequest

_ARCHITECTURES = ("x86-bios", "x86-uefi", "x86_64-uefi", "arm64-uefi")


def ends_at_ipxe(resolvers: Sequence[tuple[str, IBootFileResolver]], settings: Settings) -> Iterator[str]:
    """Yield a sentence for each architecture whose clients load iPXE, if that iPXE gets iPXE again or no file.

    Yields nothing if a resolver is neither an IUniformResolver nor an ISelectiveResolver, since its answer is unknown.

    :param resolvers: (name, resolver), in their order.
    """
    if settings.dhcp.mode == settings.dhcp6.mode == "off":
        return
    is_ipxe_program = stock().with_own(settings.persona).is_ipxe_program
    uniform = [resolver for _, resolver in resolvers if provides(resolver, IUniformResolver)]
    selective = [resolver for _, resolver in resolvers if provides(resolver, ISelectiveResolver)]
    if len(uniform) + len(selective) < len(resolvers):
        return
    for architecture in _ARCHITECTURES:
        program = next(_names(uniform, architecture, ipxe=False), "")
        if is_ipxe_program(_last_part(program)) and all(
            is_ipxe_program(_last_part(name)) for name in _names(uniform, architecture, ipxe=True)
        ):
            yield (
                f"{architecture} machines load {program}, which is iPXE, and that iPXE gets no script: "
                'name its script, with by-architecture as [resolver.files] "ipxe" = "boot.ipxe"'
            )


def _names(resolvers: Sequence[IUniformResolver], architecture: str, *, ipxe: bool) -> Iterator[str]:
    """Yield the boot files that *resolvers* have for a client of *architecture*, in order."""
    request = BootRequest("", "discover", "ipxe" if ipxe else "", architecture, ipxe=ipxe)
    for resolver in resolvers:
        try:
            file = resolver.resolve(request)
        except BootRefused:
            return
        if isinstance(file, BootFile):
            yield file.name


def _last_part(name: str) -> str:
    return name.partition("?")[0].replace("\\", "/").rpartition("/")[2]
