"""The served interfaces, by index, and the addresses of this host."""

import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from attrs import frozen

from bootfw.net.linux.netlink import LinkAddress, Netlink
from bootfw.values import Via

_LINK_LOCAL, _HOST = 253, 254  # scopes (linux/rtnetlink.h)
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # flags (linux/if_addr.h)


@frozen
class IPv4Address:
    """An IPv4 address of this host."""

    address: str
    mask: int

    def is_beside(self, other: str) -> bool:
        """Return whether *other* is in the same network."""
        return (_number(self.address) ^ _number(other)) & self.mask == 0


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


@frozen
class IPv6Address:
    """An IPv6 address of this host that other hosts can reach: not link-local, deprecated or tentative."""

    address: str
    prefix: int
    """Bits of its network."""
    interface: int
    """Index."""


def own_addresses(family: int) -> frozenset[str] | None:
    """Return the addresses of this host, tentative ones too, without link-local ones; None: netlink is forbidden.

    :param family: AF_INET or AF_INET6.
    """
    every = _every_address()
    if every is None:
        return None
    return frozenset(each.address for each in every if each.family == family and each.scope != _LINK_LOCAL)


def address_on(name: str, family: int) -> str:
    """Return an address of an interface that is not link-local; "": it has none, or netlink is forbidden.

    :param family: AF_INET or AF_INET6.
    """
    index = index_of(name)
    found = (each for each in _every_address() or () if each.interface == index and each.family == family)
    return next((each.address for each in found if each.scope != _LINK_LOCAL), "")


def _every_address() -> Sequence[LinkAddress] | None:
    with closing(Netlink()) as kernel:
        try:
            return kernel.addresses()
        except OSError:
            return None


def index_of(name: str) -> int:
    """Return the index that the interface has now; 0: there is no such interface."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


_LISTED = 12
"""Names or addresses in a message, at most; a host with containers has hundreds."""


def missing_interfaces(names: Iterable[str]) -> dict[str, str]:
    """Return those of *names* that no interface has now -> the error for the operator, with the names that exist."""
    return {name: _no_interface(name) for name in names if not index_of(name)}


def _no_interface(name: str) -> str:
    with closing(Netlink()) as kernel:
        try:
            present = [link.name for link in kernel.links().values()]
        except OSError:
            return f"no interface {name}"
    return f"no interface {name}; there are: {_first_few(present)}"


def missing_interface(name: str) -> str:
    """Return the error if no interface has *name* now, with the names that exist; "": there is one."""
    return "" if index_of(name) else _no_interface(name)


def unusable_address(address: str, kernel: Netlink | None = None) -> str:
    """Return why clients can't reach *address* on this host, for instance since no interface has it; "": they can.

    Where netlink is forbidden, this tries to bind a socket to the address.

    :param kernel: shared with others; None: one of its own.
    """
    if address in ("0.0.0.0", "::"):
        return ""
    host, _, zone = address.partition("%")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    index = index_of(zone) if zone else 0
    if zone and not index:
        return _no_interface(zone)
    try:
        if kernel is not None:
            present = kernel.has_address(host, index)
        else:
            with closing(Netlink()) as netlink:
                present = netlink.has_address(host, index)
    except OSError:
        return _unbindable(family, address)
    return "" if present else _not_assigned(family, host)


def _unbindable(family: int, address: str) -> str:
    """See unusable_address()."""
    try:
        socket_address = socket.getaddrinfo(address, 0, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
    except OSError:
        return _no_interface(address.partition("%")[2])
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket_address)
    except OSError as error:
        # Other reasons are reported where the port is opened.
        return _not_assigned(family, str(socket_address[0])) if error.errno == errno.EADDRNOTAVAIL else ""
    return ""


def _not_assigned(family: int, address: str) -> str:
    every = _every_address()
    if every is None:
        return "this host has no such address"
    assigned = {each.address: each for each in every}.get(address.partition("%")[0])
    if assigned is not None and assigned.flags & (_DAD_FAILED | _TENTATIVE):
        return "another host has this address" if assigned.flags & _DAD_FAILED else "this address is still tentative"
    addresses = sorted({each.address for each in every if each.family == family and each.scope != _LINK_LOCAL})
    return f"this host has no such address; it has: {_first_few(addresses) or 'none of this family'}"


def _first_few(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = len(listed) - _LISTED
    return ", ".join(listed[:_LISTED]) + (f" and {more} more" if more > 0 else "")


_LARGEST_ON_ETHERNET = 1468  # bytes: 1500 less the headers of IPv4, UDP and TFTP
_SMALLEST_BLKSIZE = 512  # bytes that every client accepts (RFC 1350), whatever the MTU


def fitting_blksize(blksize: int, via: Via, mtu: Callable[[Via], int | None]) -> int:
    """Return *blksize*, or less if a block would not fit into one packet of the interface.

    A size that fits Ethernet is reduced to fit a smaller MTU as well. A larger one is kept, since the operator has set
    it for a network with jumbo frames, or for clients that reassemble fragments.

    :param mtu: see Interfaces.mtu.
    """
    largest = mtu(via) if blksize <= _LARGEST_ON_ETHERNET else None
    if largest is None:
        return blksize
    # The headers of IPv6, UDP and TFTP are 40 + 8 + 4 bytes, those of IPv4 20 + 8 + 4.
    return max(_SMALLEST_BLKSIZE, min(blksize, largest - (52 if ":" in via.local else 32)))


_REPORTED = 256
"""Interfaces whose first dropped request is reported, at most: those of containers come and go without end."""


class Interfaces:
    """The interfaces of this host, by the index that a datagram arrives with, and which of them are served.

    :param names: the interfaces that are served; empty: all.
    :param dropped: called with the name of an interface that is not served, at the first request that arrives there.
    :param kernel: shared with others; None: one of its own.
    :param excepted: names of interfaces that are not served.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        dropped: Callable[[str], None] | None = None,
        kernel: Netlink | None = None,
        excepted: Sequence[str] = (),
    ) -> None:
        self._names, self._excepted = frozenset(names), frozenset(excepted)
        self.all_served = not (names or excepted)
        """Whether serves() is true for every datagram."""
        self._dropped = dropped
        self._reported: set[str] = set()
        self._kernel = kernel or Netlink()
        self._every: Sequence[LinkAddress] = ()
        """The table from which _ipv4 and _ipv6 were built. Netlink returns the same object until something changes."""
        self._ipv4: dict[int, tuple[IPv4Address, ...]] = {}
        self._ipv6: dict[int, tuple[IPv6Address, ...]] = {}

    def serve(self, names: Sequence[str], excepted: Sequence[str] = ()) -> None:
        """Serve *names* from now on, or all if it is empty, without *excepted*."""
        self._names, self._excepted = frozenset(names), frozenset(excepted)
        self.all_served = not (names or excepted)
        self._reported.clear()

    def serves(self, via: Via | None) -> bool:
        """Return whether to answer a datagram that arrived by *via*. If its interface is not known, it is answered."""
        if self.all_served or via is None or not via.interface:
            return True
        name = self.name(via.interface)
        if self._is_served(name):
            return True
        if self._dropped is not None and name and name not in self._reported and len(self._reported) < _REPORTED:
            self._reported.add(name)
            self._dropped(name)
        return False

    def served(self) -> Iterator[int]:
        """Return the indexes of the served interfaces that exist now; without netlink, only of those listed by name."""
        try:
            present = {link.name: index for index, link in self._kernel.links().items()}
        except OSError:
            present = {name: index_of(name) for name in self._names if index_of(name)}
        return (index for name, index in present.items() if self._is_served(name))

    def _is_served(self, name: str) -> bool:
        return (not self._names or name in self._names) and name not in self._excepted

    def generation(self) -> int | None:
        """Return a number that changes with each change of an interface or address; None: netlink is forbidden."""
        try:
            return self._kernel.refresh()
        except OSError:
            return None

    def name(self, index: int) -> str:
        """Return the name that the interface has now; "": it is gone."""
        # Not cached here: names change, and indexes are reused.
        if not index:
            return ""
        try:
            link = self._kernel.links().get(index)
            return link.name if link is not None else ""
        except OSError:
            try:
                return socket.if_indextoname(index)
            except OSError:
                return ""

    def mtu(self, via: Via) -> int | None:
        """Return the bytes of the largest IP packet; None: the interface is not known, or gone."""
        try:
            link = self._kernel.links().get(via.interface)
        except OSError:
            return None
        return link.mtu or None if link is not None else None

    def addresses(self, index: int) -> tuple[IPv4Address, ...] | None:
        """Return the IPv4 addresses that the interface has now, the primary one first; None: netlink is forbidden."""
        return self._ipv4.get(index, ()) if self._read() else None

    def is_own(self, address: str) -> bool:
        """Return whether an interface of this host has *address* now; false also where netlink is forbidden."""
        try:
            return any(each.address == address for each in self._kernel.addresses())
        except OSError:
            return False

    def addresses6(self, index: int) -> tuple[IPv6Address, ...]:
        """Return the IPv6 addresses of the interface that other hosts can reach, those that are not temporary first."""
        return self._ipv6.get(index, ()) if self._read() else ()

    def set_neighbour(self, address: str, hardware: bytes, via: Via) -> bool:
        """Have datagrams to *address* leave by the interface of *via*, for *hardware*; see Netlink.set_neighbour()."""
        return bool(via.interface) and self._kernel.set_neighbour(address, hardware, via.interface)

    def _read(self) -> bool:
        try:
            every = self._kernel.addresses()
        except OSError:
            return False
        if every is not self._every:
            self._every, self._ipv4, self._ipv6 = every, {}, {}
            for each in every:
                if each.family == socket.AF_INET:
                    mask = 0xFFFFFFFF << (32 - each.prefix) & 0xFFFFFFFF
                    addresses = self._ipv4.get(each.interface, ())
                    self._ipv4[each.interface] = (*addresses, IPv4Address(each.address, mask))
            for each in sorted(filter(_is_reachable, every), key=lambda each: each.flags & _TEMPORARY):
                addresses6 = self._ipv6.get(each.interface, ())
                self._ipv6[each.interface] = (*addresses6, IPv6Address(each.address, each.prefix, each.interface))
        return True


def _is_reachable(each: LinkAddress) -> bool:
    unusable = each.flags & (_DAD_FAILED | _DEPRECATED | _TENTATIVE)
    return each.family == socket.AF_INET6 and each.scope not in (_LINK_LOCAL, _HOST) and not unusable
