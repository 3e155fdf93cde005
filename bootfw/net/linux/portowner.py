"""Finds the programs that have a port: the kernel lists the sockets of a port, and /proc the sockets of each
program."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Set
from contextlib import closing
from pathlib import Path

from attrs import define

from bootfw.net.linux.netlink import NETLINK_SOCK_DIAG, NetlinkSocket

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_PORT, _NUMBER = struct.Struct("!4xH"), struct.Struct("=I")  # in struct inet_diag_msg
_INTERFACE_AT, _INODE_AT = 40, 68


@define
class _Holder:
    """A socket that has the port."""

    inode: str
    device: int
    """Index of the interface that it is bound to; 0: it has the port on all interfaces, or that is not known."""


def who_holds(port: int, family: int, protocol: str = "udp", device: str = "", own: Set[str] = frozenset()) -> str:
    """Return the programs that have *port* open, such as "dnsmasq (pid 123)"; "": none was found.

    Programs of other users are seen by root only. A program that is bound to one interface is named with it.

    :param protocol: "udp" or "tcp".
    :param family: AF_INET or AF_INET6. IPv6 sockets are looked at for AF_INET too: most of them take IPv4 as well.
    :param device: only programs that have the port on this interface; "": on any.
    :param own: inodes of our own sockets, which are left out.
    """
    families = [socket.AF_INET6] if family == socket.AF_INET6 else [socket.AF_INET, socket.AF_INET6]
    holders = [holder for each in families for holder in _holders(each, protocol, port) if holder.inode not in own]
    if device:
        with contextlib.suppress(OSError):
            index = socket.if_nametoindex(device)
            holders = [holder for holder in holders if holder.device in (0, index)]
    return ", ".join(_programs({f"socket:[{each.inode}]": each.device for each in holders})) if holders else ""


def _holders(family: int, protocol: str, port: int) -> list[_Holder]:
    number = socket.IPPROTO_UDP if protocol == "udp" else socket.IPPROTO_TCP
    try:
        return list(_listed(family, number, port))
    except OSError:  # a kernel without sock_diag(7), or a sandbox
        table = protocol if family == socket.AF_INET else f"{protocol}6"
        return [_Holder(inode, 0) for inode in inodes_of(Path("/proc/net", table), port)]


def _listed(family: int, protocol: int, port: int) -> Iterator[_Holder]:
    """Return the sockets of a port, from the kernel.

    :raise OSError: the kernel has no sock_diag(7), or this process may not use it.
    """
    with closing(NetlinkSocket(NETLINK_SOCK_DIAG)) as kernel:
        for entry in kernel.dump(_SOCK_DIAG_BY_FAMILY, _REQUEST.pack(family, protocol, 0, 0xFFFFFFFF)):
            if _PORT.unpack_from(entry)[0] == port:
                device, inode = (_NUMBER.unpack_from(entry, offset)[0] for offset in (_INTERFACE_AT, _INODE_AT))
                yield _Holder(str(inode), device)


def inodes_of(table: Path, port: int) -> Iterator[str]:
    """Return the inodes of the sockets with this local port in *table* (proc(5), /proc/net/udp)."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _programs(sockets: dict[str, int]) -> list[str]:
    """Return the programs that have one of *sockets*, with their interfaces.

    :param sockets: what a descriptor of the socket links to -> index of its interface.
    """
    programs = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            devices = _devices(process, sockets)
            if devices:
                where = "" if 0 in devices else f" on {', '.join(sorted(map(_name, devices)))}"
                programs.append(f"{(process / 'comm').read_text().strip()} (pid {process.name}){where}")
    return programs


def _devices(process: Path, sockets: dict[str, int]) -> set[int]:
    """Return the interfaces of those of *sockets* that *process* has."""
    devices = set()
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in between
            link = os.readlink(descriptor)
            if link in sockets:
                devices.add(sockets[link])
    return devices


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
