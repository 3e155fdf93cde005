"""Asking whether somebody uses an address already, before a client is offered it: by ARP, which no firewall drops."""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from bootfw.net.dhcp.conflict import Questions, Told, attach_filter
from bootfw.net.dhcp.proxyarp import ProxyARP
from bootfw.net.linux.netlink import Netlink

_ETH_P_ARP = 0x0806
_ARPHRD_ETHER = 1
_EVERYBODY = b"\xff" * 6
_REPLY = 2
_HARDWARE_LENGTH = 6
_PACKET = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826 for Ethernet and IPv4
_HEADER = (1, 0x0800, 6, 4)

# Replies only (the operation stands at byte 6): every other broadcast of a large network would wake us.
_FILTER = ((0x28, 0, 0, 6), (0x15, 0, 1, _REPLY), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


class Probe:
    """Asks on the wires of this machine. The answers of many are waited for at once.

    :param reactor: IReactorFDSet and IReactorTime.
    :param seconds: how long an answer is waited for.
    :param proxy_found: see ProxyARP; answers by such equipment count for nothing.
    :raise OSError: this process may not (CAP_NET_RAW, AF_NETLINK), or this is not Linux.
    """

    def __init__(
        self,
        reactor: Any,
        seconds: float,
        proxy_found: Callable[[str, str, tuple[str, ...]], None] = lambda interface, mac, addresses: None,
    ) -> None:
        self._clock = reactor
        self._proxies = ProxyARP(proxy_found)
        self._kernel = Netlink()
        self._kernel.links()
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ARP))
        attach_filter(self._socket, _FILTER)
        self._questions = Questions(reactor, seconds, self._socket, self._heard, "ARP probe")

    def ask(self, address: str, told: Told, *, interface: str, server: str, client: bytes) -> None:
        """Ask for *address* on *interface*.

        :param told: called once, never before this returns; not at all after close().
        :param server: our address there.
        :param client: hardware address of who is to be offered it; may well use it.
        """

        def send() -> None:
            link = self._kernel.link(interface)
            if link is None or len(link.hardware) != _HARDWARE_LENGTH:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            own = link.hardware
            packet = _PACKET.pack(*_HEADER, 1, own, socket.inet_aton(server), bytes(6), socket.inet_aton(address))
            self._socket.sendto(packet, (interface, _ETH_P_ARP, 0, _ARPHRD_ETHER, _EVERYBODY))

        def ended(user: str | None) -> None:
            if user is None:
                self._proxies.unanswered(interface)
            told(user)

        self._questions.ask(address, send, ended, wire=interface, client=client)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._questions.close()
        self._kernel.close()

    def _heard(self, packet: bytes, sender: Any) -> None:
        if len(packet) >= _PACKET.size:
            *header, operation, hardware, address, _, _ = _PACKET.unpack_from(packet)
            if tuple(header) == _HEADER and operation == _REPLY:
                self._answered(socket.inet_ntoa(address), sender[0], hardware)

    def _answered(self, address: str, interface: str, hardware: bytes) -> None:
        if self._questions.waits(address, interface, hardware) and self._proxies.answered(
            interface, hardware, address, self._clock.seconds()
        ):
            self._questions.answered(address, interface, hardware)
