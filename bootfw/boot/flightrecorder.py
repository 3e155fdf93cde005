"""The last DHCP packets of each client, kept in memory, and written to a file when a boot fails."""

from collections import deque
from collections.abc import Callable, Iterable

from bootfw.values import Address, Via
from bootfw.wire.pcapng import Datagram

PACKETS = 16_384
"""Packets that are kept, of all clients together: at most 25 MB. A boot has about 20 of them."""

_CHADDR = slice(28, 34)

_Entry = tuple[float, bytes, Address, "Via | None", int, bool]
"""(when, data, the client or its relay, how it arrived, our port, whether we sent it)."""
_Send = Callable[[bytes, Address, "Via | None"], None]


class FlightRecorder:
    """Keeps references to packets; which client they are of is found out only when a boot has failed.

    A client is its hardware address (chaddr) by DHCPv4, in packets of both directions, and its IP address by DHCPv6.
    """

    def __init__(self) -> None:
        self._packets: deque[_Entry] = deque(maxlen=PACKETS)
        self.keep: Callable[[_Entry], None] = self._packets.append
        """Takes a packet; the deque's own method, because it is called for every one."""

    def sender(self, seconds: Callable[[], float], send: _Send, port: int) -> _Send:
        """Return *send* for our *port*, which keeps what it sends."""
        keep = self.keep

        def send_and_keep(data: bytes, to: Address, via: Via | None) -> None:
            send(data, to, via)
            keep((seconds(), data, to, via, port, True))

        return send_and_keep

    def packets_of(self, mac: str, addresses: Iterable[str], since: float) -> list[_Entry]:
        """The packets of a client, in order.

        :param mac: with colons; "": it is not known.
        :param addresses: its IP addresses.
        :param since: the first time that counts.
        """
        hardware, known = bytes.fromhex(mac.replace(":", "")), frozenset(addresses)
        found = []
        for entry in reversed(self._packets):
            if entry[0] < since:
                break
            peer = entry[2]
            if peer[0] in known if len(peer) > 2 else hardware and entry[1][_CHADDR] == hardware:
                found.append(entry)
        return found[::-1]


def datagram_of(entry: _Entry, wall: float, comment: str = "") -> Datagram:
    """What is written of an entry.

    :param wall: what to add to its time to get seconds since the epoch.
    """
    at, data, peer, via, port, outbound = entry
    client = str(peer[0]), int(peer[1])
    ours = "" if via is None else via.local if outbound else via.destination or via.local
    own = (ours or ("::" if len(peer) > 2 else "0.0.0.0"), port)
    return Datagram(at + wall, own if outbound else client, client if outbound else own, data, outbound, comment)
