"""The default plugins and ports: serve the boot files that exist, next to the DHCP server that exists."""

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
"""(name of a plugin, its options) for each plugin."""

ROOTS = ("/srv/boot", "/srv/tftp", "/var/lib/tftpboot")
"""Directories of boot files: bootfw's own, that of Debian and Arch, that of Fedora."""

IMAGES = "images"
"""Directory below each of them for images of operating systems."""

SCRIPT_NAME = "boot.ipxe"
"""The file that iPXE loads by default."""

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
"""Architecture -> boot programs, the best first. The first backend that has one of them decides."""

HTTP_LISTEN: Sequence[ListenAddress] = (("0.0.0.0", 8069), ("::", 8069))
"""Where HTTP listens if there is no configuration file."""

HIGH = 10000
"""Added to the number of a port below 1024 that this process may not bind."""


def backends() -> DefaultPlugins:
    """Return the default backends: the images of operating systems in the existing directories, these directories, a
    menu, the distribution's boot programs, and a script that boots the local disk."""
    probe = MountProbe()
    # A network file system that hangs now may respond later, so its directory counts as existing.
    roots = [root for root in ROOTS if probe.hangs(Path(root)) or Path(root).is_dir()]
    images = [f"{root}/{IMAGES}" for root in roots]
    # The images first: what some of their files need is changed for the network.
    chosen: list[tuple[str, Mapping[str, Any]]] = [("images", {"root": directory}) for directory in images]
    chosen += [("directory", {"root": root}) for root in roots]
    if roots:
        chosen.append(("menu", {"root": roots, "images": images, "script": SCRIPT_NAME}))
    return [*chosen, ("distribution", {}), ("memory", {"files": {SCRIPT_NAME: SCRIPT}})]


def resolvers(backends: Sequence[tuple[str, IBackend]]) -> DefaultPlugins:
    """Return the default resolvers: one-time boots, the loop breaker, and a boot file for each architecture that
    *backends* have a program for. Empty: they have none.

    iPXE gets its script by HTTP, or by TFTP if it has no HTTP or we serve none: the first of the two resolvers gives an
    answer that such a client can't use, so the second one is called. Files that a script names relative to itself are
    loaded by the protocol of the script.
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
    """Return the name of an existing file, for the example command in the log; None: no file can be listed."""
    listable = [backend for _, backend in backends if provides(backend, IListableBackend)]
    programs = (name for names in BOOT_PROGRAMS.values() for name in names)
    found = (name for name in programs if any(backend.has(name) for backend in listable))
    return next(found, None) or next((name for backend in listable for name in backend.names()), None)


def bindable_settings(
    settings: Settings, explicit_keys: Collection[tuple[str | int, ...]], fall_back: bool
) -> tuple[Settings, dict[str, str]]:
    """Return *settings* with those default ports and addresses replaced that can't be bound on this host.

    Configured ports and addresses stay. Each port is bound to find out whether that is allowed: it depends on
    capabilities and sysctls, not only on the user.

    :param explicit_keys: paths of the keys that were configured.
    :param fall_back: there is no configuration file. Use ports above 1024 if lower ones are not allowed, serve HTTP if
        its port is free, and run a DHCPv6 proxy if its ports are free.
    :return: the settings, and service -> a note for the log.
    """
    tftp, dhcp, notes = settings.tftp, settings.dhcp, {}
    if ("tftp", "listen") not in explicit_keys:
        faults = {address: _fault(address) for address in tftp.listen}
        listen = tuple(address for address, fault in faults.items() if fault not in _NO_SUCH_FAMILY)
        if fall_back and errno.EACCES in faults.values():
            listen = tuple((host, port + HIGH) for host, port in listen)
            notes["tftp"] = f"instead of {tftp.listen[0][1]}, which needs root or CAP_NET_BIND_SERVICE"
        tftp = evolve(tftp, listen=listen)
    if fall_back and ("dhcp", "ports") not in explicit_keys and _fault(("0.0.0.0", dhcp.server_port)) == errno.EACCES:
        notes["dhcp"] = (
            f"instead of {dhcp.server_port}, which needs root or CAP_NET_BIND_SERVICE: no real client comes here"
        )
        dhcp = evolve(dhcp, server_port=dhcp.server_port + HIGH)
    if fall_back and ("http", "listen") not in explicit_keys:
        free = [address for address in HTTP_LISTEN if not _fault(address, socket.SOCK_STREAM)]
        settings = evolve(settings, http=evolve(settings.http, listen=free))
    dhcp6 = settings.dhcp6
    if fall_back and ("dhcp6", "mode") not in explicit_keys:
        free_ports = not any(_fault(("::", port)) for port in (dhcp6.server_port, dhcp6.boot_server_port))
        settings = evolve(settings, dhcp6=evolve(dhcp6, mode="proxy" if free_ports else "off"))
    return evolve(settings, tftp=tftp, dhcp=dhcp), notes


_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors of binding "::" on a host without IPv6."""


def _fault(address: ListenAddress, kind: int = socket.SOCK_DGRAM) -> int:
    """Bind a socket to *address* and close it; return the error number, or 0 on success."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # Connections of an earlier run may be in TIME_WAIT. A port on which a program listens stays refused.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
