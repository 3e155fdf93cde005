"""Flight recorder: the latest DHCP and TFTP packets in memory, from which the recording of a failed boot is made.

Packets in the middle of a TFTP transfer are not recorded: those of the fast path never are, and without a fast path
only the first OF_TRANSFER packets and the AT_TIMEOUT packets after a timeout are. Of a DATA packet only the header and
the length are recorded.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

from bootfw.values import Address, Via
from bootfw.wire.pcapng import Datagram

PACKETS = 16_384
"""DHCP packets that are kept, of all clients together: about 10 MB. A boot has about 20 of them."""

TFTP_PACKETS = 16_384
"""TFTP packets that are kept, of all clients together: about 5 MB. A small file has five of them."""

LONGEST_KEPT = 4096
"""Bytes that are kept of a TFTP packet at most. DHCP packets that are longer are not kept, since none is answered."""

OF_TRANSFER = 24
"""Packets that are recorded at the beginning of a transfer."""

AT_TIMEOUT = 4
"""Packets that are recorded after a timeout of a transfer."""

_CHADDR = slice(28, 34)  # the six bytes of an Ethernet address (RFC 2131 section 2)
_DATA = b"\0\3"

_Entry = tuple[float, bytes, Address, "Via | None", int, bool]
"""(time, data, address of the client or its relay, how the packet arrived, our port, whether we sent it)."""
_Send = Callable[[bytes, Address, "Via | None"], None]
KeptPacket = tuple[float, bool, bytes, int, int, Address, "Via | None", int]
"""(time, whether we sent it, recorded data, size in bytes, segment size in bytes, address of the client, how its
request arrived, our port). A segment size above 0: a window that was sent by one call, as datagrams of that size."""
_FIELDS = 8


def _tftp_datagrams(
    at: float, outbound: bool, data: bytes, size: int, segment: int, peer: Address, via: Via | None, port: int
) -> Iterable[Datagram]:
    client = str(peer[0]), int(peer[1])
    server = (via.local if via is not None else "") or ("::" if ":" in client[0] else "0.0.0.0"), port
    source, destination = (server, client) if outbound else (client, server)
    for each, length in _datagrams_of(data, size, segment):
        yield Datagram(at, source, destination, each, outbound, length=length if length > len(each) else 0)


def _datagrams_of(data: bytes, size: int, segment: int) -> Iterable[tuple[bytes, int]]:
    """Split the packets of one call into (recorded data, size in bytes) of each datagram."""
    if not segment or size <= segment:
        return [(data, size)]
    # Only the header of the first DATA packet was recorded; the others have the block numbers that follow.
    first = int.from_bytes(data[2:4])
    return [
        (_DATA + (first + number & 0xFFFF).to_bytes(2), min(segment, size - at))
        for number, at in enumerate(range(0, size, segment))
    ]


class FlightRecorder:
    """Two ring buffers of packets. To record one costs an append; the packets of a client are searched for later.

    A client is identified by its hardware address in DHCPv4 (chaddr, in both directions), and by its IP address in
    DHCPv6 and TFTP.
    """

    def __init__(self) -> None:
        self._packets: deque[_Entry] = deque(maxlen=PACKETS)
        self._tftp_fields: deque[Any] = deque(maxlen=_FIELDS * TFTP_PACKETS)
        """The fields of each KeptPacket, flattened: a tuple for each packet would cost the garbage collector more than
        the rest of the recorder."""
        self.keep: Callable[[_Entry], None] = self._packets.append
        """Records a DHCP packet. The method of the deque itself, because it is called for every packet."""
        self.keep_tftp: Callable[[KeptPacket], None] = self._tftp_fields.extend
        """Records a TFTP packet."""

    def sender(self, seconds: Callable[[], float], send: _Send, port: int) -> _Send:
        """Wrap the function *send* of our DHCP *port* so that it records what it sends."""
        keep = self.keep

        def send_and_keep(data: bytes, to: Address, via: Via | None) -> None:
            send(data, to, via)
            keep((seconds(), data, to, via, port, True))

        return send_and_keep

    def packets_of(self, mac: str, addresses: Iterable[str], since: float) -> list[_Entry]:
        """Return the DHCP packets of a client, the oldest first.

        :param mac: with colons; "": not known.
        :param addresses: its IP addresses.
        :param since: return no older packets; seconds of the recorder's clock.
        """
        hardware, client_addresses = bytes.fromhex(mac.replace(":", "")), frozenset(addresses)
        found = []
        for entry in reversed(self._packets):
            if entry[0] < since:
                break
            peer = entry[2]  # an IPv6 address has four fields, an IPv4 address two
            if peer[0] in client_addresses if len(peer) > 2 else hardware and entry[1][_CHADDR] == hardware:
                found.append(entry)
        return found[::-1]

    def transfers_of(self, addresses: Collection[str], since: float) -> list[Datagram]:
        """Return the TFTP packets of the client at *addresses*; *since* is in seconds of the recorder's clock."""
        # It begins with a whole packet: each extend() adds _FIELDS items, and the maximum is a multiple of that.
        fields = list(self._tftp_fields)
        found: list[Datagram] = []
        for position, peer in enumerate(fields[5::_FIELDS]):
            if peer[0] in addresses and fields[position * _FIELDS] >= since:
                found += _tftp_datagrams(*fields[position * _FIELDS : (position + 1) * _FIELDS])
        return found


def datagram_of(entry: _Entry, wall: float, comment: str = "") -> Datagram:
    """Return a DHCP packet as the recording shows it.

    :param wall: added to its time to get seconds since the epoch.
    """
    at, data, peer, via, port, outbound = entry
    client = str(peer[0]), int(peer[1])
    # A request keeps the address that it was sent to, such as the broadcast address.
    ours = "" if via is None else via.local if outbound else via.destination or via.local
    server = (ours or ("::" if len(peer) > 2 else "0.0.0.0"), port)
    return Datagram(at + wall, server if outbound else client, client if outbound else server, data, outbound, comment)
