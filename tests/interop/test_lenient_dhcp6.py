"""DHCPv6 messages that are not quite right: what Kea answers, bootfw answers as well.

Each server is started once, gets every message of the table, and its replies are collected. A message that bootfw does
not answer although Kea does stands in the table with the reason.
"""

import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from attrs import frozen

from .dhcpservers import kea_dhcp6
from .lab import Host, Lab, Program, wait_until
from .service import start_bootfw

pytestmark = [pytest.mark.interop, pytest.mark.together]

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORMATION_REQUEST = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11,
)  # fmt: skip
RELAY_FORWARD, RELAY_REPLY = 12, 13
CLIENT, SERVER, IA_NA, IA_TA, ADDRESS, REQUESTED, ELAPSED, RELAYED, RAPID, VENDOR, INTERFACE, IA_PD, FQDN = (
    1, 2, 3, 4, 5, 6, 8, 9, 14, 16, 18, 25, 39,
)  # fmt: skip

PORTS = (546, 547, 40546)
QUIET_SECONDS = 3.0
POOL_ADDRESS, OTHER_ADDRESS = "fd77::1005", "fd99::5"
UNSPECIFIED = "::"


def option(code: int, value: bytes = b"") -> bytes:
    """An option with a length that is right."""
    return struct.pack("!HH", code, len(value)) + value


def ia(code: int = IA_NA, iaid: int = 1, options: bytes = b"") -> bytes:
    times = b"" if code == IA_TA else bytes(8)
    return option(code, struct.pack("!I", iaid) + times + options)


def address(text: str, options: bytes = b"") -> bytes:
    return option(ADDRESS, socket.inet_pton(socket.AF_INET6, text) + struct.pack("!II", 300, 600) + options)


ORO = option(REQUESTED, struct.pack("!2H", 23, 24))
ELAPSED_TIME = option(ELAPSED, b"\0\0")
BODY = ia() + ORO + ELAPSED_TIME
"""What a SOLICIT has beside its client identifier."""


@frozen
class Sender:
    """A client, and the server that it has heard of."""

    number: int
    server: bytes

    @property
    def duid(self) -> bytes:
        return b"\0\3\0\1\x02\0\0\0\1" + bytes((self.number,))

    def message(self, message_type: int, options: bytes) -> bytes:
        return bytes((message_type,)) + (0x510000 + self.number).to_bytes(3, "big") + options


@frozen
class Case:
    """One message."""

    name: str
    build: Callable[[Sender], bytes]
    reply: int | None
    """The kind of message that answers it; None: neither server answers."""
    not_answered: str = ""
    """Why bootfw does not answer what Kea does."""
    port: int = 546


def case(
    name: str,
    message_type: int,
    options: Callable[[Sender], bytes],
    reply: int | None,
    not_answered: str = "",
    port: int = 546,
) -> Case:
    return Case(name, lambda sender: sender.message(message_type, options(sender)), reply, not_answered, port)


def solicit(name: str, options: bytes, reply: int | None = ADVERTISE, not_answered: str = "", port: int = 546) -> Case:
    """With a client identifier in front."""
    return case(name, SOLICIT, lambda sender: option(CLIENT, sender.duid) + options, reply, not_answered, port)


def with_duid(name: str, duid: bytes, reply: int | None = ADVERTISE, not_answered: str = "") -> Case:
    return case(name, SOLICIT, lambda sender: option(CLIENT, duid) + BODY, reply, not_answered)


def to_server(name: str, message_type: int, options: bytes, reply: int | None = REPLY, not_answered: str = "") -> Case:
    """With both identifiers in front."""

    def build(sender: Sender) -> bytes:
        return option(CLIENT, sender.duid) + option(SERVER, sender.server) + options

    return case(name, message_type, build, reply, not_answered)


def to_any(name: str, message_type: int, options: bytes, reply: int | None = REPLY, not_answered: str = "") -> Case:
    return case(name, message_type, lambda sender: option(CLIENT, sender.duid) + options, reply, not_answered)


def relay(message: bytes, link: str = "fd77::9", options: bytes = b"", after: bytes = b"", hops: int = 0) -> bytes:
    packed = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (link, "fe80::99"))
    return bytes((RELAY_FORWARD, hops)) + packed + options + option(RELAYED, message) + after


def relayed(name: str, wrap: Callable[[bytes], bytes], reply: int | None = ADVERTISE, not_answered: str = "") -> Case:
    def build(sender: Sender) -> bytes:
        return wrap(sender.message(SOLICIT, option(CLIENT, sender.duid) + BODY))

    return Case(name, build, reply, not_answered, 547)


def nested(count: int) -> Callable[[bytes], bytes]:
    def wrap(message: bytes) -> bytes:
        for hops in range(count):
            message = relay(message, "fd77::9" if not hops else UNSPECIFIED, hops=hops)
        return message

    return wrap


NO_ASSOCIATION = "servers have to discard it: RFC 8415 section 16.12"
UNKNOWN_NETWORK = "whether to respond is a matter of policy, and no subnet says so: RFC 8415 section 18.3.1"

CASES = [
    solicit("nothing is wrong", BODY),
    # Twice
    case("option 1 twice", SOLICIT, lambda s: 2 * option(CLIENT, s.duid) + BODY, ADVERTISE),
    solicit("option 1 twice, and different", option(CLIENT, b"\0\4x") + BODY),
    solicit("option 3 twice, with the same IAID", ia() + ia()),
    solicit("option 3 twice, with two IAIDs", ia() + ia(iaid=2) + ORO + ELAPSED_TIME),
    solicit("option 6 twice", ia() + ORO + ORO + ELAPSED_TIME),
    solicit("option 8 twice", ia() + ORO + ELAPSED_TIME + ELAPSED_TIME),
    solicit("option 14 twice", BODY + 2 * option(RAPID), REPLY),
    to_server("option 2 twice", REQUEST, option(SERVER, b"\0\4other") + BODY),
    # Cut
    solicit("the last option is cut off", BODY + b"\0\x10\0\x20abc"),
    solicit("the last option has a head and nothing else", BODY + b"\0\x10\0\5"),
    solicit("one byte follows the options", BODY + b"\0"),
    solicit("three bytes follow the options", BODY + b"\0\0\0"),
    solicit("zeros follow the options", BODY + bytes(32)),
    solicit("an option in option 3 is cut off", option(IA_NA, bytes(12) + b"\0\5\0\x18abc") + ORO + ELAPSED_TIME),
    Case("an empty datagram", lambda s: b"", None),
    Case("a head of three bytes", lambda s: b"\1\0\0", None),
    # Empty, and of a wrong length
    with_duid("option 1 is empty", b"", None),
    *[solicit(f"option {code} is empty", BODY + option(code)) for code in (6, 8, 15, 16, 17, 20, 39, 59, 61, 62, 99)],
    *[
        solicit(f"option {code} has {length} bytes", BODY + option(code, bytes(length)))
        for code, length in ((6, 1), (6, 3), (8, 1), (8, 4), (15, 1), (16, 3), (16, 5), (17, 3), (20, 1), (61, 1))
    ],
    solicit("option 14 has 3 bytes", BODY + option(RAPID, bytes(3)), REPLY),
    solicit("option 3 has 4 bytes", option(IA_NA, bytes(4)) + ORO + ELAPSED_TIME),
    solicit("option 3 is empty", option(IA_NA) + ORO + ELAPSED_TIME),
    solicit("option 5 in option 3 has 4 bytes", ia(options=option(ADDRESS, bytes(4))) + ORO + ELAPSED_TIME),
    solicit("option 39 has a name that does not end", BODY + option(FQDN, b"\0\x05ab")),
    # Unknown, and what the client has no business to send
    solicit("an unknown option", BODY + option(4711, b"x")),
    solicit("option 65535", BODY + option(65535, b"x")),
    solicit("an option of a server: preference", BODY + option(7, b"\xff")),
    solicit("an option of a server: status", BODY + option(13, b"\0\0")),
    solicit("an option of a relay: interface id", BODY + option(INTERFACE, b"x")),
    solicit("authentication", BODY + option(11, bytes(11))),
    solicit("no list of options", ia() + ELAPSED_TIME),
    solicit("no elapsed time", ia() + ORO),
    solicit("an elapsed time of ten minutes", ia() + ORO + option(ELAPSED, b"\xff\xff")),
    solicit("the list asks for what does not exist", ia() + ELAPSED_TIME + option(REQUESTED, b"\0\0\x27\x0f\xff\xff")),
    solicit("the list has each number", ia() + ELAPSED_TIME + option(REQUESTED, struct.pack("!300H", *range(300)))),
    # Identity associations
    solicit("no identity association", ORO + ELAPSED_TIME),
    solicit("a temporary address", ia(IA_TA) + ORO + ELAPSED_TIME),
    solicit("a prefix", ia(IA_PD) + ORO + ELAPSED_TIME),
    solicit("an address, a temporary one and a prefix", ia() + ia(IA_TA, 2) + ia(IA_PD, 3) + ORO + ELAPSED_TIME),
    solicit("twenty identity associations", b"".join(ia(iaid=n) for n in range(20)) + ORO + ELAPSED_TIME),
    solicit("it asks for an address of the pool", ia(options=address(POOL_ADDRESS)) + ORO + ELAPSED_TIME),
    solicit("it asks for an address of elsewhere", ia(options=address(OTHER_ADDRESS)) + ORO + ELAPSED_TIME),
    solicit(
        "it asks for three addresses",
        ia(options=address(POOL_ADDRESS) + address(OTHER_ADDRESS) + address(POOL_ADDRESS)) + ORO,
    ),
    solicit("it asks for a multicast address", ia(options=address("ff02::1")) + ORO + ELAPSED_TIME),
    solicit(
        "it asks for an address with an option inside", ia(options=address(POOL_ADDRESS, option(13, b"\0\0"))) + ORO
    ),
    # Identifiers
    case("no option 1", SOLICIT, lambda s: BODY, None),
    *[
        with_duid(f"a DUID of {length} bytes", bytes((0, 4)) + bytes((length,)) * (length - 2))
        for length in (3, 4, 18, 64, 128, 130)
    ],
    with_duid("a DUID of 1 byte", b"\7"),
    with_duid("a DUID of 2 bytes", b"\0\4"),
    with_duid("a DUID of 131 bytes", b"\0\4" + b"x" * 129),
    with_duid("a DUID of 300 bytes", b"\0\4" + b"y" * 298),
    with_duid("a DUID of an unknown type", b"\xff\xff\0\1abcdef"),
    with_duid("a DUID-LL of unknown hardware", b"\0\3\xff\xff\1\2\3\4"),
    with_duid("a DUID-LL without an address", b"\0\3\0\1"),
    solicit("a SOLICIT with a server identifier", option(SERVER, b"\0\3\0\1abcdef") + BODY, None),
    case("a REQUEST without a server identifier", REQUEST, lambda s: option(CLIENT, s.duid) + BODY, None),
    to_any("a REQUEST for another server", REQUEST, option(SERVER, b"\0\3\0\1abcdef") + BODY, None),
    case("a REQUEST without a client identifier", REQUEST, lambda s: option(SERVER, s.server) + BODY, None),
    # Other messages
    to_server("a REQUEST without an identity association", REQUEST, ORO + ELAPSED_TIME),
    to_server("a REQUEST without an elapsed time", REQUEST, ia() + ORO),
    to_server(
        "a REQUEST for an address of elsewhere", REQUEST, ia(options=address(OTHER_ADDRESS)) + ORO + ELAPSED_TIME
    ),
    to_server("a RENEW of what it does not have", RENEW, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME),
    to_server("a RENEW without an identity association", RENEW, ELAPSED_TIME),
    to_any("a RENEW without a server identifier", RENEW, ia(options=address(POOL_ADDRESS)), None),
    to_any("a REBIND of an address of elsewhere", REBIND, ia(options=address(OTHER_ADDRESS)) + ELAPSED_TIME),
    to_any("a REBIND of what another client has", REBIND, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME),
    to_server("a REBIND with a server identifier", REBIND, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME, None),
    to_any("a CONFIRM of an address of here", CONFIRM, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME),
    to_any("a CONFIRM of an address of elsewhere", CONFIRM, ia(options=address(OTHER_ADDRESS)) + ELAPSED_TIME),
    to_any("a CONFIRM of no address", CONFIRM, ia() + ELAPSED_TIME, None),
    to_any("a CONFIRM without an identity association", CONFIRM, ELAPSED_TIME, None),
    to_server("a RELEASE of what it does not have", RELEASE, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME),
    to_server("a RELEASE without an identity association", RELEASE, ELAPSED_TIME),
    to_server("a DECLINE of what it does not have", DECLINE, ia(options=address(POOL_ADDRESS)) + ELAPSED_TIME),
    to_server("a DECLINE of no address", DECLINE, ia() + ELAPSED_TIME),
    to_any("an INFORMATION-REQUEST", INFORMATION_REQUEST, ORO + ELAPSED_TIME),
    case(
        "an INFORMATION-REQUEST without a client identifier", INFORMATION_REQUEST, lambda s: ORO + ELAPSED_TIME, REPLY
    ),
    case("an INFORMATION-REQUEST of nothing", INFORMATION_REQUEST, lambda s: b"", REPLY),
    to_any("an INFORMATION-REQUEST with an identity association", INFORMATION_REQUEST, BODY, REPLY, NO_ASSOCIATION),
    to_server("an INFORMATION-REQUEST for this server", INFORMATION_REQUEST, ORO + ELAPSED_TIME),
    to_any("an INFORMATION-REQUEST for another server", INFORMATION_REQUEST, option(SERVER, b"\0\3\0\1abcdef"), None),
    *[to_any(f"message type {number}", number, BODY, None) for number in (0, ADVERTISE, REPLY, 10, 14, 37, 255)],
    # Ports
    solicit("from port 547", BODY, port=547),
    solicit("from another port", BODY, port=40546),
    # Relays
    relayed("a relay", relay),
    relayed("a relay that gives no link address", lambda m: relay(m, UNSPECIFIED)),
    relayed("a relay of an unknown network", lambda m: relay(m, "fd88::1"), ADVERTISE, UNKNOWN_NETWORK),
    relayed("a relay with an interface id", lambda m: relay(m, options=option(INTERFACE, b"port 7"))),
    relayed("a relay with an empty interface id", lambda m: relay(m, options=option(INTERFACE))),
    relayed("a relay with an unknown option after the message", lambda m: relay(m, after=option(4711, b"x"))),
    relayed("a relay with a second message", lambda m: relay(m, after=option(RELAYED, b"\1\0\0\1"))),
    relayed("a relay whose last option is cut off", lambda m: relay(m, after=b"\0\x12\0\x09ab")),
    relayed("a relay with a remote id that is too short", lambda m: relay(m, options=option(37, b"x"))),
    relayed("a relay with a hardware address that is too short", lambda m: relay(m, options=option(79, b"\0"))),
    relayed("a relay with a hop count of 200", lambda m: relay(m, hops=200)),
    *[relayed(f"{count} relays", nested(count)) for count in (2, 8, 31)],
    relayed("60 relays", nested(60), None),
    relayed("a relay without a message", lambda m: relay(b"")[: 34], None),
    relayed("a relay with an empty message", lambda m: relay(b""), None),
    relayed("a relay whose head is cut off", lambda m: relay(m)[:20], None),
]  # fmt: skip


def message_in_relay_reply(data: bytes) -> bytes:
    """The message of a server in what it has sent to relays."""
    while data[:1] == bytes((RELAY_REPLY,)):
        position, message = 34, b""
        while position + 4 <= len(data):
            code, length = struct.unpack_from("!HH", data, position)
            if code == RELAYED:
                message = data[position + 4 : position + 4 + length]
            position += 4 + length
        data = message
    return data


class RawClients:
    """Sockets on the ports of clients and relays, which send whatever they are given."""

    def __init__(self, host: Host) -> None:
        self._sockets: dict[int, socket.socket] = {}
        with host.entered():
            index = socket.if_nametoindex("eth0")
            self._servers = ("ff02::1:2", 547, 0, index)
            for port in PORTS:
                sock = self._sockets[port] = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                sock.bind(("::", port))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def exchange(self, messages: Mapping[str, tuple[int, bytes]]) -> list[bytes]:
        """All that is heard from the first message until it has been quiet after the last."""
        received: list[bytes] = []
        for port, data in messages.values():
            self._sockets[port].sendto(data, self._servers)
            received += self._receive(0.005)
        return received + self._receive(QUIET_SECONDS)

    def _receive(self, seconds: float) -> list[bytes]:
        messages: list[bytes] = []
        deadline = time.monotonic() + seconds
        while ready := select.select(self._sockets.values(), [], [], max(0.0, deadline - time.monotonic()))[0]:
            for sock in ready:
                messages.append(message_in_relay_reply(sock.recv(65535)))
                deadline = time.monotonic() + seconds
        return messages


def bootfw(host: Host, directory: Path) -> Program:
    configuration = f"""
        [bootfw]
        state-dir = "{directory / "state"}"
        [tftp]
        listen = ["[::]:69"]
        [dhcp]
        mode = "off"
        [dhcp6]
        mode = "server"
        new-clients-per-second = 0
        [[dhcp6.subnet]]
        network = "fd77::/64"
        pool = ["fd77::1000-fd77::1fff"]
    """
    return start_bootfw(host, directory, configuration, 547)


def replies(lab: Lab, start: Callable[[Host, Path], Program]) -> dict[str, int]:
    """What a server replies: name of the case -> kind of message."""
    server, client_host = lab.host("server", "fd77::1/64"), lab.host("client")
    wait_until(lambda: has_link_local(server) and has_link_local(client_host), 10, "link-local addresses can be used")
    start(server, lab.directory)
    clients = RawClients(client_host)
    try:
        solicit_message = Sender(255, b"").message(SOLICIT, option(CLIENT, b"\0\3\0\1\x02\0\0\0\1\xff") + BODY)
        advertise = wait_until(
            lambda: next(
                (data for data in clients.exchange({"": (546, solicit_message)}) if data[0] == ADVERTISE), b""
            ),
            30,
            "a SOLICIT is answered",
        )
        position = advertise.index(b"\0\2\0")  # option 2 of up to 255 bytes
        identifier = advertise[position + 4 : position + 4 + advertise[position + 3]]
        senders = {case.name: Sender(number, identifier) for number, case in enumerate(CASES, 1)}
        received = clients.exchange({case.name: (case.port, case.build(senders[case.name])) for case in CASES})
    finally:
        clients.close()
    by_xid = {int.from_bytes(data[1:4], "big"): data[0] for data in received if len(data) >= 4}
    message_types = {name: by_xid.get(0x510000 + sender.number) for name, sender in senders.items()}
    return {name: message_type for name, message_type in message_types.items() if message_type is not None}


def has_link_local(host: Host) -> bool:
    command = ("ip", "-n", host.namespace, "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "fe80" in listing and "tentative" not in listing


@pytest.fixture(scope="module")
def bootfw_replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    with Lab(tmp_path_factory.mktemp("bootfw")) as lab:
        return replies(lab, bootfw)


@pytest.fixture(scope="module")
def kea_replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    with Lab(tmp_path_factory.mktemp("kea")) as lab:
        answered = replies(lab, kea_dhcp6)
    assert CASES[0].name in answered, "it does not even answer what is right"
    return answered


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) < 255


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answered_messages_of_each_server(case: Case, bootfw_replies: dict[str, int]) -> None:
    assert bootfw_replies.get(case.name) == (None if case.not_answered else case.reply)


def test_messages_that_kea_answers_are_answered(bootfw_replies: dict[str, int], kea_replies: dict[str, int]) -> None:
    reasons = {case.name: case.not_answered for case in CASES}
    assert [name for name in kea_replies.keys() - bootfw_replies.keys() if not reasons[name]] == []
