"""Other boot servers are detected by the replies that they broadcast, on links between network namespaces."""

import socket
from collections.abc import Iterator
from socket import inet_aton

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.events import Event, OtherBootServerSeen
from bootfw.net.dhcp.otherservers import OtherBootServers
from bootfw.net.linux.interfaces import Interfaces
from bootfw.wire.dhcp4 import BOOTREPLY, BOOTREQUEST, Message, MessageType, pack
from bootfw.wire.options import Option

from .namespaces import Host

Hosts = tuple[Host, Host]

OURS, OTHER = "10.9.0.1", "10.9.0.9"
MAC = "52:54:00:12:34:56"


def reply(
    file: bytes = b"", vendor_class: bytes = b"", op: int = BOOTREPLY, server: str = OTHER, xid: int = 1
) -> bytes:
    """A DHCPOFFER, by default one of the other server."""
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((MessageType.OFFER,)),
        Option.SERVER_IDENTIFIER: inet_aton(server),
    }
    if vendor_class:
        options[Option.VENDOR_CLASS_IDENTIFIER] = vendor_class
    chaddr = bytes.fromhex(MAC.replace(":", ""))
    return pack(Message(op=op, xid=xid, chaddr=chaddr, file=file, options=options), 1472)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def detector(hosts: Hosts, private_reactor: EPollReactor, events: list[Event]) -> Iterator[OtherBootServers]:
    server, _ = hosts
    with server.inside():
        detector = OtherBootServers(private_reactor, events.append, Interfaces())
        yield detector
        detector.close()
        assert detector.fileno() == -1
        detector.close()


@pytest.fixture
def other_server(hosts: Hosts) -> Iterator[socket.socket]:
    """The socket of another server."""
    with hosts[1].inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.bind((OTHER, 67))
    yield sock
    sock.close()


LAST = reply(b"last")
"""A reply that is always reported. Once it is, a packet before it that has not been reported never will be."""


def events_before_last(
    events: list[Event], other_server: socket.socket, turn_until: TurnUntil
) -> list[OtherBootServerSeen]:
    """Send LAST, and return the events of the packets before it."""
    other_server.sendto(LAST, ("10.9.0.255", 68))
    turn_until(lambda: events and isinstance(events[-1], OtherBootServerSeen) and events[-1].file == "last")
    return [event for event in events[:-1] if isinstance(event, OtherBootServerSeen)]


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    ("sent", "file"), [(reply(b"other.0"), "other.0"), (reply(vendor_class=b"PXEClient"), ""), (reply(b"a", b"x"), "a")]
)
def test_reply_with_boot_options_is_reported(
    other_server: socket.socket, events: list[Event], turn_until: TurnUntil, sent: bytes, file: str
) -> None:
    other_server.sendto(sent, ("10.9.0.255", 68))
    other_server.sendto(sent, ("10.9.0.255", 68))  # the answer to a retry of the client
    (event,) = events_before_last(events, other_server, turn_until)
    assert (event.server, event.interface, event.mac, event.file) == (OTHER, "s0", MAC, file)


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    ("sent", "port"),
    [
        pytest.param(reply(), 68, id="plain"),
        pytest.param(reply(b"boot.0", server=OURS), 68, id="our own, sent back to us"),
        pytest.param(reply(b"boot.0", op=BOOTREQUEST), 68, id="request"),
        pytest.param(reply(b"boot.0"), 67, id="to a server"),
        pytest.param(b"\2" * 40, 68, id="malformed"),
        pytest.param(b"\2", 68, id="short"),
    ],
)
def test_packet_that_offers_no_boot_is_ignored(
    other_server: socket.socket, events: list[Event], turn_until: TurnUntil, sent: bytes, port: int
) -> None:
    other_server.sendto(sent, ("10.9.0.255", port))
    assert events_before_last(events, other_server, turn_until) == []


@pytest.mark.usefixtures("detector")
def test_our_own_replies_are_ignored(
    hosts: Hosts, other_server: socket.socket, events: list[Event], turn_until: TurnUntil
) -> None:
    with hosts[0].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((OURS, 67))
        sock.sendto(reply(b"boot.0"), ("10.9.0.255", 68))
    assert events_before_last(events, other_server, turn_until) == []


@pytest.mark.usefixtures("detector")
def test_server_at_a_new_local_address_is_not_reported(
    hosts: Hosts, other_server: socket.socket, events: list[Event], turn_until: TurnUntil
) -> None:
    address = "10.9.0.77"
    other_server.sendto(reply(b"boot.0", server=address), ("10.9.0.255", 68))
    turn_until(lambda: events)
    hosts[0].ip("addr", "add", f"{address}/32", "dev", "s0")
    other_server.sendto(reply(b"boot.1", server=address), ("10.9.0.255", 68))
    assert [event.file for event in events_before_last(events, other_server, turn_until)] == ["boot.0"]
    hosts[0].ip("addr", "del", f"{address}/32", "dev", "s0")
    other_server.sendto(reply(b"boot.2", server=address), ("10.9.0.255", 68))
    turn_until(lambda: len(events) == 3)


def test_replies_on_unserved_interfaces_are_ignored(
    hosts: Hosts, private_reactor: EPollReactor, other_server: socket.socket, events: list[Event], turn_until: TurnUntil
) -> None:
    with hosts[0].inside():
        detectors = [OtherBootServers(private_reactor, events.append, Interfaces([name])) for name in ("lo", "s0")]
        other_server.sendto(reply(b"other.0"), ("10.9.0.255", 68))
        assert [event.file for event in events_before_last(events, other_server, turn_until)] == ["other.0"]
    for each in detectors:
        each.close()
