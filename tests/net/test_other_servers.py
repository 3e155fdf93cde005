"""Other boot servers are seen by what they broadcast, on a real wire."""

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
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((MessageType.OFFER,)),
        Option.SERVER_IDENTIFIER: inet_aton(server),
    }
    if vendor_class:
        options[Option.VENDOR_CLASS_IDENTIFIER] = vendor_class
    chaddr = bytes.fromhex(MAC.replace(":", ""))
    return pack(Message(op=op, xid=xid, chaddr=chaddr, file=file, options=options), 1472)


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def watched(hosts: Hosts, private_reactor: EPollReactor, seen: list[Event]) -> Iterator[OtherBootServers]:
    ours, _ = hosts
    with ours.inside():
        made = OtherBootServers(private_reactor, seen.append, Interfaces())
        yield made
        made.close()
        assert made.fileno() == -1
        made.close()


@pytest.fixture
def other(hosts: Hosts) -> Iterator[socket.socket]:
    """Of another server."""
    with hosts[1].inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.bind((OTHER, 67))
    yield made
    made.close()


LAST = reply(b"last")
"""What is seen in any case, so that what came before it and is not seen never will be."""


def until_last(seen: list[Event], other: socket.socket, turn_until: TurnUntil) -> list[OtherBootServerSeen]:
    other.sendto(LAST, ("10.9.0.255", 68))
    turn_until(lambda: seen and isinstance(seen[-1], OtherBootServerSeen) and seen[-1].file == "last")
    return [event for event in seen[:-1] if isinstance(event, OtherBootServerSeen)]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("sent", "file"), [(reply(b"other.0"), "other.0"), (reply(vendor_class=b"PXEClient"), ""), (reply(b"a", b"x"), "a")]
)
def test_reply_with_boot_options_is_reported(
    other: socket.socket, seen: list[Event], turn_until: TurnUntil, sent: bytes, file: str
) -> None:
    other.sendto(sent, ("10.9.0.255", 68))
    other.sendto(sent, ("10.9.0.255", 68))  # for a retry of the client
    (event,) = until_last(seen, other, turn_until)
    assert (event.server, event.interface, event.mac, event.file) == (OTHER, "s0", MAC, file)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("sent", "port"),
    [
        pytest.param(reply(), 68, id="plain"),
        pytest.param(reply(b"boot.0", server=OURS), 68, id="our own, that came back"),
        pytest.param(reply(b"boot.0", op=BOOTREQUEST), 68, id="request"),
        pytest.param(reply(b"boot.0"), 67, id="to a server"),
        pytest.param(b"\2" * 40, 68, id="malformed"),
        pytest.param(b"\2", 68, id="short"),
    ],
)
def test_replies_without_boot_options_are_ignored(
    other: socket.socket, seen: list[Event], turn_until: TurnUntil, sent: bytes, port: int
) -> None:
    other.sendto(sent, ("10.9.0.255", port))
    assert until_last(seen, other, turn_until) == []


@pytest.mark.usefixtures("watched")
def test_our_own_replies_are_ignored(
    hosts: Hosts, other: socket.socket, seen: list[Event], turn_until: TurnUntil
) -> None:
    with hosts[0].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        own.bind((OURS, 67))
        own.sendto(reply(b"boot.0"), ("10.9.0.255", 68))
    assert until_last(seen, other, turn_until) == []


@pytest.mark.usefixtures("watched")
def test_server_at_a_new_local_address_is_not_reported(
    hosts: Hosts, other: socket.socket, seen: list[Event], turn_until: TurnUntil
) -> None:
    moving = "10.9.0.77"
    other.sendto(reply(b"boot.0", server=moving), ("10.9.0.255", 68))
    turn_until(lambda: seen)
    hosts[0].ip("addr", "add", f"{moving}/32", "dev", "s0")
    other.sendto(reply(b"boot.1", server=moving), ("10.9.0.255", 68))
    assert [event.file for event in until_last(seen, other, turn_until)] == ["boot.0"]
    hosts[0].ip("addr", "del", f"{moving}/32", "dev", "s0")
    other.sendto(reply(b"boot.2", server=moving), ("10.9.0.255", 68))
    turn_until(lambda: len(seen) == 3)


def test_replies_on_unserved_interfaces_are_ignored(
    hosts: Hosts, private_reactor: EPollReactor, other: socket.socket, seen: list[Event], turn_until: TurnUntil
) -> None:
    with hosts[0].inside():
        watched = [OtherBootServers(private_reactor, seen.append, Interfaces([name])) for name in ("lo", "s0")]
        other.sendto(reply(b"other.0"), ("10.9.0.255", 68))
        assert [event.file for event in until_last(seen, other, turn_until)] == ["other.0"]
    for each in watched:
        each.close()
