"""The last packets of each client, kept in memory, and written to a file when a boot fails: DHCP and TFTP.

Of TFTP, the packets that the fast path handles are left out, which are the blocks in the middle of a file and their
ACKs. So are those of a transfer without a fast path, from the 25th on, until it has to wait for its client. Of a DATA
packet the header and the length are kept.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

from bootfw.values import Address, Via
from bootfw.wire.pcapng import Datagram

PACKETS = 16_384
"""DHCP packets that are kept, of all clients together: at most 25 MB. A boot has about 20 of them."""

TFTP_PACKETS = 16_384
"""TFTP packets that are kept, of all clients together: about 5 MB. A small file has five of them."""

OF_TRANSFER = 24
"""Packets that are kept of the beginning of a transfer."""

AT_TIMEOUT = 4
"""Packets that are kept when a transfer has waited in vain, of what comes next."""

_CHADDR = slice(28, 34)
_DATA = b"\0\3"

_Entry = tuple[float, bytes, Address, "Via | None", int, bool]
"""(when, data, the client or its relay, how it arrived, our port, whether we sent it)."""
_Send = Callable[[bytes, Address, "Via | None"], None]
KeptPacket = tuple[float, bool, bytes, int, int, Address, "Via | None", int]
"""(when, whether we sent it, data, bytes, bytes of each datagram if it is several, else 0; the client, how its request
arrived, our port)."""
_FIELDS = 8


def _tftp_datagrams(
    at: float, outbound: bool, data: bytes, size: int, segment: int, peer: Address, via: Via | None, port: int
) -> Iterable[Datagram]:
    client = str(peer[0]), int(peer[1])
    own = (via.local if via is not None else "") or ("::" if ":" in client[0] else "0.0.0.0"), port
    source, destination = (own, client) if outbound else (client, own)
    for each, length in _datagrams_of(data, size, segment):
        yield Datagram(at, source, destination, each, outbound, length=length if length > len(each) else 0)


def _datagrams_of(data: bytes, size: int, segment: int) -> Iterable[tuple[bytes, int]]:
    """(what is kept of it, bytes) of each datagram: several DATA packets are sent at once."""
    if not segment or size <= segment:
        return [(data, size)]
    first = int.from_bytes(data[2:4])
    return [
        (_DATA + (first + number & 0xFFFF).to_bytes(2), min(segment, size - at))
        for number, at in enumerate(range(0, size, segment))
    ]


class FlightRecorder:
    """Keeps references to packets; their clients are determined only when a boot has failed.

    A client is its hardware address (chaddr) by DHCPv4, in packets of both directions, and its IP address by DHCPv6 and
    TFTP.
    """

    def __init__(self) -> None:
        self._packets: deque[_Entry] = deque(maxlen=PACKETS)
        self._tftp_fields: deque[Any] = deque(maxlen=_FIELDS * TFTP_PACKETS)
        """The fields of each KeptPacket, one after the other: a tuple for each would cost the garbage collector
        more than the rest of the recorder."""
        self.keep: Callable[[_Entry], None] = self._packets.append
        """Takes a DHCP packet; the deque's own method, because it is called for every one."""
        self.keep_tftp: Callable[[KeptPacket], None] = self._tftp_fields.extend
        """Takes a TFTP packet."""

    def sender(self, seconds: Callable[[], float], send: _Send, port: int) -> _Send:
        """Return *send* for our *port* of DHCP, which keeps what it sends."""
        keep = self.keep

        def send_and_keep(data: bytes, to: Address, via: Via | None) -> None:
            send(data, to, via)
            keep((seconds(), data, to, via, port, True))

        return send_and_keep

    def packets_of(self, mac: str, addresses: Iterable[str], since: float) -> list[_Entry]:
        """The DHCP packets of a client, in order.

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

    def transfers_of(self, addresses: Collection[str], since: float) -> list[Datagram]:
        """The TFTP packets of the client at *addresses*, since that time by the clock of the recorder."""
        fields = list(self._tftp_fields)
        found: list[Datagram] = []
        for position, peer in enumerate(fields[5::_FIELDS]):
            if peer[0] in addresses and fields[position * _FIELDS] >= since:
                found += _tftp_datagrams(*fields[position * _FIELDS : (position + 1) * _FIELDS])
        return found


def datagram_of(entry: _Entry, wall: float, comment: str = "") -> Datagram:
    """What is written of an entry.

    :param wall: what to add to its time to get seconds since the epoch.
    """
    at, data, peer, via, port, outbound = entry
    client = str(peer[0]), int(peer[1])
    ours = "" if via is None else via.local if outbound else via.destination or via.local
    own = (ours or ("::" if len(peer) > 2 else "0.0.0.0"), port)
    return Datagram(at + wall, own if outbound else client, client if outbound else own, data, outbound, comment)
