"""The defaults for missing sections: serve what is installed, and disturb no other server."""

import errno
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from bootfw.ability import provides
from bootfw.config.settings import ListenAddress, Settings
from bootfw.dhcp.bootfile import IPXE_LOCAL_BOOT
from bootfw.interfaces import IBackend, IListableBackend
from bootfw.net.linux.mounts import MountProbe

DefaultPlugins = Sequence[tuple[str, Mapping[str, Any]]]
"""(plugin, options) each."""

ROOTS = ("/srv/boot", "/srv/tftp", "/var/lib/tftpboot")
"""Directories of boot files: our own default, that of Debian and Arch, that of Fedora."""

SCRIPT_NAME = "boot.ipxe"

SCRIPT = f"""#!ipxe
echo
echo bootfw is here, but it has no {SCRIPT_NAME} of yours to give to this machine:
echo mac ${{mac}}, address ${{ip}}, uuid ${{uuid}}, ${{buildarch}} ${{platform}}, ${{manufacturer}} ${{product}}
echo
echo Put your own script on the server as {ROOTS[0]}/{SCRIPT_NAME} and it is loaded in place of this one.
echo
prompt --key s --timeout 5000 The local disk is next. Press s for the iPXE shell instead. && shell ||
{IPXE_LOCAL_BOOT}"""

WATCHDOG: DefaultPlugins = [("adaptive", {})]

OBSERVERS: DefaultPlugins = [("log", {})]

STORE: DefaultPlugins = [("sqlite", {})]

BOOT_PROGRAMS: Mapping[str, Sequence[str]] = {
    "x86-bios": ("undionly.kpxe", "lpxelinux.0", "pxelinux.0"),
    "x86-uefi": ("snponly-i386.efi", "ipxe-i386.efi", "bootia32.efi", "grubnetia32.efi", "syslinux32.efi"),
    "x86_64-uefi": ("snponly.efi", "ipxe.efi", "shimx64.efi", "bootx64.efi", "grubnetx64.efi", "syslinux.efi"),
    "arm64-uefi": ("snponly-arm64.efi", "ipxe-arm64.efi", "shimaa64.efi", "bootaa64.efi", "grubnetaa64.efi"),
    "arm-rpiboot": ("bootcode.bin", "start4.elf", "kernel_2712.img"),
    "ipxe": (SCRIPT_NAME,),
}
"""Architecture -> programs, the best first. The first backend that has any of them decides."""

HTTP_LISTEN: Sequence[ListenAddress] = (("0.0.0.0", 8069), ("::", 8069))

HIGH = 10000
"""Added to a port below 1024 that this process may not bind."""


def backends() -> DefaultPlugins:
    """The directories that exist, a menu of them, the distribution's programs, a script for the local disk."""
    probe = MountProbe()
    # A file system that hangs may answer later: its directory counts as one that exists.
    roots = [root for root in ROOTS if probe.hangs(Path(root)) or Path(root).is_dir()]
    chosen: list[tuple[str, Mapping[str, Any]]] = [("directory", {"root": root}) for root in roots]
    if roots:
        chosen.append(("menu", {"root": roots, "script": SCRIPT_NAME}))
    return [*chosen, ("distribution", {}), ("memory", {"files": {SCRIPT_NAME: SCRIPT}})]


def resolvers(backends: Sequence[tuple[str, IBackend]]) -> DefaultPlugins:
    """One-time boots, then a boot file by architecture, for each that *backends* have a program for.

    iPXE is sent to its script by HTTP, and by TFTP where it has no HTTP or we have none: an answer that a client can't
    use is left to the next resolver. The files that the script names relative to itself are loaded by the same
    protocol.
    """
    listable = [backend for _, backend in backends if provides(backend, IListableBackend)]
    files = {}
    for architecture, programs in BOOT_PROGRAMS.items():
        found = [program for backend in listable for program in programs if backend.has(program)]
        if found:
            files[architecture] = found[0]
    by_http = [{"ipxe": f"{{http}}/{files['ipxe']}"}] if "ipxe" in files else []
    chosen = [("by-architecture", {"files": each}) for each in (*by_http, files) if each]
    return [("next-boot", {}), ("loop-breaker", {}), *chosen] if chosen else []


def example(backends: Sequence[tuple[str, IBackend]]) -> str | None:
    """The name of a file that exists, for the example command of the start; None: there is none."""
    listable = [backend for _, backend in backends if provides(backend, IListableBackend)]
    programs = (name for names in BOOT_PROGRAMS.values() for name in names)
    found = (name for name in programs if any(backend.has(name) for backend in listable))
    return next(found, None) or next((name for backend in listable for name in backend.names()), None)


def bindable_settings(
    settings: Settings, given: Collection[tuple[str | int, ...]], fall_back: bool
) -> tuple[Settings, dict[str, str]]:
    """*settings*, with default ports and addresses that can't be bound here replaced; configured ones stay.

    Whether a port can be bound is found by trying it, since capabilities and sysctls decide that, not the user id.

    :param given: the keys that were configured.
    :param fall_back: there is no configuration file: use ports above 1024 where lower ones are not allowed, serve HTTP
        where its port is free, and be a proxy by DHCPv6 too where its ports can be bound.
    :return: the settings, and what to say about a service.
    """
    tftp, dhcp, notes = settings.tftp, settings.dhcp, {}
    if ("tftp", "listen") not in given:
        faults = {address: _fault(address) for address in tftp.listen}
        listen = tuple(address for address, fault in faults.items() if fault not in _NO_SUCH_FAMILY)
        if fall_back and errno.EACCES in faults.values():
            listen = tuple((host, port + HIGH) for host, port in listen)
            notes["tftp"] = f"instead of {tftp.listen[0][1]}, which needs root or CAP_NET_BIND_SERVICE"
        tftp = evolve(tftp, listen=listen)
    if fall_back and ("dhcp", "ports") not in given and _fault(("0.0.0.0", dhcp.server_port)) == errno.EACCES:
        notes["dhcp"] = (
            f"instead of {dhcp.server_port}, which needs root or CAP_NET_BIND_SERVICE: no real client comes here"
        )
        dhcp = evolve(dhcp, server_port=dhcp.server_port + HIGH)
    if fall_back and ("http", "listen") not in given:
        free = [address for address in HTTP_LISTEN if not _fault(address, socket.SOCK_STREAM)]
        settings = evolve(settings, http=evolve(settings.http, listen=free))
    dhcp6 = settings.dhcp6
    if fall_back and ("dhcp6", "mode") not in given:
        free_ports = not any(_fault(("::", port)) for port in (dhcp6.server_port, dhcp6.boot_server_port))
        settings = evolve(settings, dhcp6=evolve(dhcp6, mode="proxy" if free_ports else "off"))
    return evolve(settings, tftp=tftp, dhcp=dhcp), notes


_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _fault(address: ListenAddress, kind: int = socket.SOCK_DGRAM) -> int:
    """The error number of binding *address*, for UDP or TCP; 0 when it can be bound."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # SO_REUSEADDR ignores connections of our last run (TIME_WAIT), but not a program that listens.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
