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
INSIDE, OUTSIDE = "fd77::1005", "fd99::5"
NOWHERE = "::"


def option(code: int, value: bytes = b"") -> bytes:
    """An option with a length that is right."""
    return struct.pack("!HH", code, len(value)) + value


def ia(code: int = IA_NA, iaid: int = 1, inside: bytes = b"") -> bytes:
    times = b"" if code == IA_TA else bytes(8)
    return option(code, struct.pack("!I", iaid) + times + inside)


def address(text: str, inside: bytes = b"") -> bytes:
    return option(ADDRESS, socket.inet_pton(socket.AF_INET6, text) + struct.pack("!II", 300, 600) + inside)


LIST = option(REQUESTED, struct.pack("!2H", 23, 24))
TIME = option(ELAPSED, b"\0\0")
REST = ia() + LIST + TIME
"""What a SOLICIT has beside its client identifier."""


@frozen
class Sender:
    """A client, and the server that it has heard of."""

    number: int
    server: bytes

    @property
    def duid(self) -> bytes:
        return b"\0\3\0\1\x02\0\0\0\1" + bytes((self.number,))

    def says(self, kind: int, options: bytes) -> bytes:
        return bytes((kind,)) + (0x510000 + self.number).to_bytes(3, "big") + options


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


def says(
    name: str, kind: int, options: Callable[[Sender], bytes], reply: int | None, not_answered: str = "", port: int = 546
) -> Case:
    return Case(name, lambda sender: sender.says(kind, options(sender)), reply, not_answered, port)


def solicit(name: str, options: bytes, reply: int | None = ADVERTISE, not_answered: str = "", port: int = 546) -> Case:
    """With a client identifier in front."""
    return says(name, SOLICIT, lambda sender: option(CLIENT, sender.duid) + options, reply, not_answered, port)


def identified(name: str, duid: bytes, reply: int | None = ADVERTISE, not_answered: str = "") -> Case:
    return says(name, SOLICIT, lambda sender: option(CLIENT, duid) + REST, reply, not_answered)


def to_server(name: str, kind: int, options: bytes, reply: int | None = REPLY, not_answered: str = "") -> Case:
    """With both identifiers in front."""

    def build(sender: Sender) -> bytes:
        return option(CLIENT, sender.duid) + option(SERVER, sender.server) + options

    return says(name, kind, build, reply, not_answered)


def to_any(name: str, kind: int, options: bytes, reply: int | None = REPLY, not_answered: str = "") -> Case:
    return says(name, kind, lambda sender: option(CLIENT, sender.duid) + options, reply, not_answered)


def relay(message: bytes, link: str = "fd77::9", options: bytes = b"", after: bytes = b"", hops: int = 0) -> bytes:
    packed = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (link, "fe80::99"))
    return bytes((RELAY_FORWARD, hops)) + packed + options + option(RELAYED, message) + after


def relayed(name: str, wrap: Callable[[bytes], bytes], reply: int | None = ADVERTISE, not_answered: str = "") -> Case:
    def build(sender: Sender) -> bytes:
        return wrap(sender.says(SOLICIT, option(CLIENT, sender.duid) + REST))

    return Case(name, build, reply, not_answered, 547)


def nested(count: int) -> Callable[[bytes], bytes]:
    def wrap(message: bytes) -> bytes:
        for hops in range(count):
            message = relay(message, "fd77::9" if not hops else NOWHERE, hops=hops)
        return message

    return wrap


NO_ASSOCIATION = "servers have to discard it: RFC 8415 section 16.12"
UNKNOWN_NETWORK = "whether to respond is a matter of policy, and no subnet says so: RFC 8415 section 18.3.1"

CASES = [
    solicit("nothing is wrong", REST),
    # Twice
    says("option 1 twice", SOLICIT, lambda s: 2 * option(CLIENT, s.duid) + REST, ADVERTISE),
    solicit("option 1 twice, and different", option(CLIENT, b"\0\4x") + REST),
    solicit("option 3 twice, with the same IAID", ia() + ia()),
    solicit("option 3 twice, with two IAIDs", ia() + ia(iaid=2) + LIST + TIME),
    solicit("option 6 twice", ia() + LIST + LIST + TIME),
    solicit("option 8 twice", ia() + LIST + TIME + TIME),
    solicit("option 14 twice", REST + 2 * option(RAPID), REPLY),
    to_server("option 2 twice", REQUEST, option(SERVER, b"\0\4other") + REST),
    # Cut
    solicit("the last option is cut off", REST + b"\0\x10\0\x20abc"),
    solicit("the last option has a head and nothing else", REST + b"\0\x10\0\5"),
    solicit("one byte follows the options", REST + b"\0"),
    solicit("three bytes follow the options", REST + b"\0\0\0"),
    solicit("zeros follow the options", REST + bytes(32)),
    solicit("an option in option 3 is cut off", option(IA_NA, bytes(12) + b"\0\5\0\x18abc") + LIST + TIME),
    Case("an empty datagram", lambda s: b"", None),
    Case("a head of three bytes", lambda s: b"\1\0\0", None),
    # Empty, and of a wrong length
    identified("option 1 is empty", b"", None),
    *[solicit(f"option {code} is empty", REST + option(code)) for code in (6, 8, 15, 16, 17, 20, 39, 59, 61, 62, 99)],
    *[
        solicit(f"option {code} has {length} bytes", REST + option(code, bytes(length)))
        for code, length in ((6, 1), (6, 3), (8, 1), (8, 4), (15, 1), (16, 3), (16, 5), (17, 3), (20, 1), (61, 1))
    ],
    solicit("option 14 has 3 bytes", REST + option(RAPID, bytes(3)), REPLY),
    solicit("option 3 has 4 bytes", option(IA_NA, bytes(4)) + LIST + TIME),
    solicit("option 3 is empty", option(IA_NA) + LIST + TIME),
    solicit("option 5 in option 3 has 4 bytes", ia(inside=option(ADDRESS, bytes(4))) + LIST + TIME),
    solicit("option 39 has a name that does not end", REST + option(FQDN, b"\0\x05ab")),
    # Unknown, and what the client has no business to send
    solicit("an unknown option", REST + option(4711, b"x")),
    solicit("option 65535", REST + option(65535, b"x")),
    solicit("an option of a server: preference", REST + option(7, b"\xff")),
    solicit("an option of a server: status", REST + option(13, b"\0\0")),
    solicit("an option of a relay: interface id", REST + option(INTERFACE, b"x")),
    solicit("authentication", REST + option(11, bytes(11))),
    solicit("no list of options", ia() + TIME),
    solicit("no elapsed time", ia() + LIST),
    solicit("an elapsed time of ten minutes", ia() + LIST + option(ELAPSED, b"\xff\xff")),
    solicit("the list asks for what does not exist", ia() + TIME + option(REQUESTED, b"\0\0\x27\x0f\xff\xff")),
    solicit("the list has each number", ia() + TIME + option(REQUESTED, struct.pack("!300H", *range(300)))),
    # Identity associations
    solicit("no identity association", LIST + TIME),
    solicit("a temporary address", ia(IA_TA) + LIST + TIME),
    solicit("a prefix", ia(IA_PD) + LIST + TIME),
    solicit("an address, a temporary one and a prefix", ia() + ia(IA_TA, 2) + ia(IA_PD, 3) + LIST + TIME),
    solicit("twenty identity associations", b"".join(ia(iaid=n) for n in range(20)) + LIST + TIME),
    solicit("it asks for an address of the pool", ia(inside=address(INSIDE)) + LIST + TIME),
    solicit("it asks for an address of elsewhere", ia(inside=address(OUTSIDE)) + LIST + TIME),
    solicit("it asks for three addresses", ia(inside=address(INSIDE) + address(OUTSIDE) + address(INSIDE)) + LIST),
    solicit("it asks for a multicast address", ia(inside=address("ff02::1")) + LIST + TIME),
    solicit("it asks for an address with an option inside", ia(inside=address(INSIDE, option(13, b"\0\0"))) + LIST),
    # Identifiers
    says("no option 1", SOLICIT, lambda s: REST, None),
    *[
        identified(f"a DUID of {length} bytes", bytes((0, 4)) + bytes((length,)) * (length - 2))
        for length in (3, 4, 18, 64, 128, 130)
    ],
    identified("a DUID of 1 byte", b"\7"),
    identified("a DUID of 2 bytes", b"\0\4"),
    identified("a DUID of 131 bytes", b"\0\4" + b"x" * 129),
    identified("a DUID of 300 bytes", b"\0\4" + b"y" * 298),
    identified("a DUID of an unknown type", b"\xff\xff\0\1abcdef"),
    identified("a DUID-LL of unknown hardware", b"\0\3\xff\xff\1\2\3\4"),
    identified("a DUID-LL without an address", b"\0\3\0\1"),
    solicit("a SOLICIT with a server identifier", option(SERVER, b"\0\3\0\1abcdef") + REST, None),
    says("a REQUEST without a server identifier", REQUEST, lambda s: option(CLIENT, s.duid) + REST, None),
    to_any("a REQUEST for another server", REQUEST, option(SERVER, b"\0\3\0\1abcdef") + REST, None),
    says("a REQUEST without a client identifier", REQUEST, lambda s: option(SERVER, s.server) + REST, None),
    # Other messages
    to_server("a REQUEST without an identity association", REQUEST, LIST + TIME),
    to_server("a REQUEST without an elapsed time", REQUEST, ia() + LIST),
    to_server("a REQUEST for an address of elsewhere", REQUEST, ia(inside=address(OUTSIDE)) + LIST + TIME),
    to_server("a RENEW of what it does not have", RENEW, ia(inside=address(INSIDE)) + TIME),
    to_server("a RENEW without an identity association", RENEW, TIME),
    to_any("a RENEW without a server identifier", RENEW, ia(inside=address(INSIDE)), None),
    to_any("a REBIND of an address of elsewhere", REBIND, ia(inside=address(OUTSIDE)) + TIME),
    to_any("a REBIND of what another client has", REBIND, ia(inside=address(INSIDE)) + TIME),
    to_server("a REBIND with a server identifier", REBIND, ia(inside=address(INSIDE)) + TIME, None),
    to_any("a CONFIRM of an address of here", CONFIRM, ia(inside=address(INSIDE)) + TIME),
    to_any("a CONFIRM of an address of elsewhere", CONFIRM, ia(inside=address(OUTSIDE)) + TIME),
    to_any("a CONFIRM of no address", CONFIRM, ia() + TIME, None),
    to_any("a CONFIRM without an identity association", CONFIRM, TIME, None),
    to_server("a RELEASE of what it does not have", RELEASE, ia(inside=address(INSIDE)) + TIME),
    to_server("a RELEASE without an identity association", RELEASE, TIME),
    to_server("a DECLINE of what it does not have", DECLINE, ia(inside=address(INSIDE)) + TIME),
    to_server("a DECLINE of no address", DECLINE, ia() + TIME),
    to_any("an INFORMATION-REQUEST", INFORMATION_REQUEST, LIST + TIME),
    says("an INFORMATION-REQUEST that does not say who sends it", INFORMATION_REQUEST, lambda s: LIST + TIME, REPLY),
    says("an INFORMATION-REQUEST of nothing", INFORMATION_REQUEST, lambda s: b"", REPLY),
    to_any("an INFORMATION-REQUEST with an identity association", INFORMATION_REQUEST, REST, REPLY, NO_ASSOCIATION),
    to_server("an INFORMATION-REQUEST for this server", INFORMATION_REQUEST, LIST + TIME),
    to_any("an INFORMATION-REQUEST for another server", INFORMATION_REQUEST, option(SERVER, b"\0\3\0\1abcdef"), None),
    *[to_any(f"message type {kind}", kind, REST, None) for kind in (0, ADVERTISE, REPLY, 10, 14, 37, 255)],
    # Ports
    solicit("from port 547", REST, port=547),
    solicit("from another port", REST, port=40546),
    # Relays
    relayed("a relay", relay),
    relayed("a relay that gives no link address", lambda m: relay(m, NOWHERE)),
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


def unwrapped(data: bytes) -> bytes:
    """The message of a server in what it has sent to relays."""
    while data[:1] == bytes((RELAY_REPLY,)):
        at, inside = 34, b""
        while at + 4 <= len(data):
            code, length = struct.unpack_from("!HH", data, at)
            if code == RELAYED:
                inside = data[at + 4 : at + 4 + length]
            at += 4 + length
        data = inside
    return data


class RawClients:
    """Sockets on the ports of clients and relays, which send whatever they are given."""

    def __init__(self, host: Host) -> None:
        self._sockets: dict[int, socket.socket] = {}
        with host._entered():
            index = socket.if_nametoindex("eth0")
            self._to = ("ff02::1:2", 547, 0, index)
            for port in PORTS:
                sock = self._sockets[port] = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                sock.bind(("::", port))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def say(self, messages: Mapping[str, tuple[int, bytes]]) -> list[bytes]:
        """All that is heard from the first message until it has been quiet after the last."""
        heard: list[bytes] = []
        for port, data in messages.values():
            self._sockets[port].sendto(data, self._to)
            heard += self._heard(0.005)
        return heard + self._heard(QUIET_SECONDS)

    def _heard(self, seconds: float) -> list[bytes]:
        found: list[bytes] = []
        until = time.monotonic() + seconds
        while ready := select.select(self._sockets.values(), [], [], max(0.0, until - time.monotonic()))[0]:
            for sock in ready:
                found.append(unwrapped(sock.recv(65535)))
                until = time.monotonic() + seconds
        return found


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
    server, host = lab.host("server", "fd77::1/64"), lab.host("client")
    wait_until(lambda: has_link_local(server) and has_link_local(host), 10, "link-local addresses can be used")
    start(server, lab.directory)
    raw = RawClients(host)
    try:
        first = Sender(255, b"").says(SOLICIT, option(CLIENT, b"\0\3\0\1\x02\0\0\0\1\xff") + REST)
        advertised = wait_until(
            lambda: next((data for data in raw.say({"": (546, first)}) if data[0] == ADVERTISE), b""),
            30,
            "a SOLICIT is answered",
        )
        at = advertised.index(b"\0\2\0")  # option 2 of up to 255 bytes
        identifier = advertised[at + 4 : at + 4 + advertised[at + 3]]
        senders = {case.name: Sender(number, identifier) for number, case in enumerate(CASES, 1)}
        heard = raw.say({case.name: (case.port, case.build(senders[case.name])) for case in CASES})
    finally:
        raw.close()
    by_xid = {int.from_bytes(data[1:4], "big"): data[0] for data in heard if len(data) >= 4}
    found = {name: by_xid.get(0x510000 + sender.number) for name, sender in senders.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def has_link_local(host: Host) -> bool:
    words = ("ip", "-n", host.namespace, "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return "fe80" in shown and "tentative" not in shown


@pytest.fixture(scope="module")
def bootfw_replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    with Lab(tmp_path_factory.mktemp("bootfw")) as lab:
        return replies(lab, bootfw)


@pytest.fixture(scope="module")
def kea_replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    with Lab(tmp_path_factory.mktemp("kea")) as lab:
        found = replies(lab, kea_dhcp6)
    assert CASES[0].name in found, "it does not even answer what is right"
    return found


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) < 255


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answered_messages_of_each_server(case: Case, bootfw_replies: dict[str, int]) -> None:
    assert bootfw_replies.get(case.name) == (None if case.not_answered else case.reply)


def test_messages_that_kea_answers_are_answered(bootfw_replies: dict[str, int], kea_replies: dict[str, int]) -> None:
    reasons = {case.name: case.not_answered for case in CASES}
    assert [name for name in kea_replies.keys() - bootfw_replies.keys() if not reasons[name]] == []
