"""DHCP messages that are not quite right: what dnsmasq and Kea both answer, bootfw answers as well.

Each server is started once, gets every message of the table, and its replies are collected. A message that bootfw does
not answer stands in the table with the reason.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from .dhcpservers import dnsmasq, kea_dhcp4
from .lab import Host, Lab, Program
from .rawdhcp import RELAY, SERVER, Datagram, RawClients, Reply, message, option
from .service import start_bootfw

pytestmark = [pytest.mark.interop, pytest.mark.together]

BOOTP, DISCOVER, OFFER, REQUEST, ACK, INFORM = 0, 1, 2, 3, 5, 8
MESSAGE_TYPE = option(53, bytes((DISCOVER,)))
REQUEST_LIST = option(55, bytes((1, 3, 6, 15, 51)))
PLAIN = MESSAGE_TYPE + REQUEST_LIST
OTHER_NETWORK = "192.168.9.9"


@frozen
class Client:
    """Who says it; ``address`` is what it was offered before, where it was."""

    number: int
    address: str = "0.0.0.0"

    @property
    def xid(self) -> int:
        return 0x51000000 + self.number

    @property
    def mac(self) -> bytes:
        return b"\x52\x54\0\0\x01" + bytes((self.number,))

    def message_with(self, options: bytes, *, wire: Mapping[str, Any] | None = None, **header: Any) -> Datagram:
        """A message; *wire* are fields of the frame around it."""
        header_fields = {"xid": self.xid, "mac": self.mac, **header}
        return Datagram(data=message(options, **header_fields), xid=header_fields["xid"], mac=self.mac, **(wire or {}))


@frozen
class Case:
    """One message."""

    name: str
    build: Callable[[Client], Datagram]
    reply: int
    """The kind of message that answers it."""
    not_answered: str = ""
    """Why bootfw does not answer it."""
    selects: bool = False
    """It is sent when the client has been offered an address."""


def discover(name: str, options: bytes, not_answered: str = "", **header: Any) -> Case:
    return Case(name, lambda client: client.message_with(options, **header), OFFER, not_answered)


def bootp(name: str, options: bytes, **header: Any) -> Case:
    return Case(name, lambda client: client.message_with(options, **header), BOOTP)


def inform(name: str, not_answered: str = "", **header: Any) -> Case:
    return Case(name, lambda client: client.message_with(option(53, bytes((INFORM,))), **header), ACK, not_answered)


def selecting(name: str, options: Callable[[Client], bytes], not_answered: str = "", **header: Any) -> Case:
    """After a DISCOVER and its OFFER."""

    def build(client: Client) -> Datagram:
        header_fields: dict[str, Any] = {
            key: client.address if value == "offered" else value for key, value in header.items()
        }
        return client.message_with(option(53, bytes((REQUEST,))) + options(client), **header_fields)

    return Case(name, build, ACK, not_answered, selects=True)


def chosen(client: Client) -> bytes:
    """What selects an offer."""
    return option(50, client.address) + option(54, SERVER)


def option_twice(code: int, value: bytes | str) -> Case:
    return discover(f"option {code} twice", PLAIN + 2 * option(code, value))


def empty_option(code: int) -> Case:
    return discover(f"option {code} is empty", PLAIN + option(code, b""))


def with_length(code: int, length: int) -> Case:
    return discover(f"option {code} has {length} bytes", PLAIN + option(code, bytes(range(1, length + 1))))


def in_two_parts(code: int) -> Case:
    """RFC 3396."""
    value = b"x" * 300
    return discover(
        f"option {code} has 300 bytes in two parts", PLAIN + option(code, value[:255]) + option(code, value[255:])
    )


NO_MESSAGE_TYPE = "the kind of message is unknown"
NO_CLIENT = "nothing tells this client from others"
NOT_A_REQUEST = "it is no message of a client"
WOULD_BE_OURSELVES = "the reply would go to this host itself, and no relay waits for it there"
NO_ROUTE = "no route leads to where it says it is"
DROPPED_BY_LINUX = "Linux takes 0.0.0.0 for the source of a broadcast to everybody only"
UNKNOWN_NETWORK = "no subnet is configured for where it says it is"

CASES = [
    discover("nothing is wrong", PLAIN),
    # Twice
    discover("option 53 twice", MESSAGE_TYPE + MESSAGE_TYPE + REQUEST_LIST),
    discover("option 53 twice, and different", MESSAGE_TYPE + option(53, b"\3") + REQUEST_LIST),
    option_twice(12, b"host"),
    option_twice(43, b"\1\1x"),
    option_twice(50, "10.77.0.99"),
    discover("option 50 twice, and different", PLAIN + option(50, "10.77.0.98") + option(50, OTHER_NETWORK)),
    option_twice(51, "0.0.1.0"),
    option_twice(52, b"\1"),
    option_twice(55, b"\1\3"),
    option_twice(57, b"\5\xdc"),
    option_twice(60, b"udhcp"),
    option_twice(61, b"\1abcdef"),
    option_twice(77, b"\4user"),
    option_twice(82, b"\1\1x"),
    option_twice(93, b"\0\0"),
    option_twice(97, bytes(17)),
    # Cut
    discover("the last option is cut off", PLAIN + b"\x0c\x14abc", end=b"", size=0),
    discover("the last option has a length and nothing else", PLAIN + b"\x0c\5", end=b"", size=0),
    discover("the last option has a code and nothing else", PLAIN + b"\x0c", end=b"", size=0),
    discover("option 55 is cut off", MESSAGE_TYPE + b"\x37\x10\1\3\6", end=b"", size=0),
    discover("option 61 is cut off", PLAIN + b"\x3d\x10\1abc", end=b"", size=0),
    discover("option 82 is cut off", PLAIN + b"\x52\x10\1\4", end=b"", size=0),
    discover("the length of an option runs past END and padding", PLAIN + b"\x3c\xffudhcp"),
    bootp("option 53 is cut off", REQUEST_LIST + b"\x35\1", end=b"", size=0),
    # Empty
    *(empty_option(code) for code in (12, 43, 50, 51, 52, 55, 57, 60, 61, 77, 82, 93, 97)),
    discover("option 53 is empty", REQUEST_LIST + option(53, b""), NO_MESSAGE_TYPE),
    # Of a wrong length
    with_length(50, 3),
    with_length(50, 5),
    with_length(51, 2),
    with_length(54, 3),
    with_length(57, 1),
    with_length(57, 3),
    with_length(61, 1),
    with_length(93, 1),
    with_length(93, 3),
    with_length(97, 16),
    discover("option 53 has two bytes", option(53, b"\1\0") + REQUEST_LIST),
    discover("option 52 has two bytes", PLAIN + option(52, b"\1\0"), file=REQUEST_LIST + b"\xff"),
    # Of a wrong value
    discover("option 50 is of another network", PLAIN + option(50, OTHER_NETWORK)),
    discover("option 50 is the server's own address", PLAIN + option(50, SERVER)),
    discover("option 50 is no address", PLAIN + option(50, "255.255.255.255")),
    discover("option 51 is for ever", PLAIN + option(51, b"\xff" * 4)),
    discover("option 54 names another server", PLAIN + option(54, OTHER_NETWORK)),
    discover("option 55 has END and pad in it", MESSAGE_TYPE + option(55, b"\0\xff\1")),
    discover("option 57 is 0", PLAIN + option(57, b"\0\0")),
    discover("option 57 is 65535", PLAIN + option(57, b"\xff\xff")),
    discover("option 12 is no text", PLAIN + option(12, b"\0\xff\x1b[2J")),
    discover("option 77 is a bare string", PLAIN + option(77, b"iPXE")),
    discover("option 53 is 0", REQUEST_LIST + option(53, b"\0"), NO_MESSAGE_TYPE),
    discover("option 53 is not registered", REQUEST_LIST + option(53, b"\xc8"), NO_MESSAGE_TYPE),
    discover("option 53 is an OFFER", REQUEST_LIST + option(53, b"\2"), NOT_A_REQUEST),
    # Overload
    discover("options in file", PLAIN + option(52, b"\1"), file=option(12, b"h") + b"\xff"),
    discover("options in sname", PLAIN + option(52, b"\2"), sname=option(12, b"h") + b"\xff"),
    discover(
        "options in both",
        MESSAGE_TYPE + option(52, b"\3"),
        file=REQUEST_LIST + b"\xff",
        sname=option(12, b"h") + b"\xff",
    ),
    discover("option 53 in file", REQUEST_LIST + option(52, b"\1"), file=MESSAGE_TYPE + b"\xff"),
    discover("option 61 in sname", PLAIN + option(52, b"\2"), sname=option(61, b"\1abcdef") + b"\xff"),
    discover("options in file without END", PLAIN + option(52, b"\1"), file=b"A" * 128),
    discover("options in file that are cut off", PLAIN + option(52, b"\1"), file=bytes(125) + b"\x0c\5h"),
    discover("option 52 is 0", PLAIN + option(52, b"\0")),
    discover("option 52 is 4", PLAIN + option(52, b"\4")),
    # Longer than 255
    *(in_two_parts(code) for code in (12, 43, 55, 60, 61, 77)),
    discover(
        "option 82 of a relay has 300 bytes",
        PLAIN + option(82, b"\1\xfd" + b"x" * 253) + option(82, b"\2\x2b" + b"x" * 43),
        giaddr=RELAY,
    ),
    # Hardware types and lengths
    discover("hardware type 6", PLAIN, htype=6),
    discover("hardware type 255", PLAIN, htype=255),
    discover("hardware type 0", PLAIN, htype=0),
    discover("InfiniBand, by option 61", PLAIN + option(61, b"\xff\0\0\0\1abcdef"), htype=32, hlen=0, chaddr=b""),
    discover("InfiniBand without option 61", PLAIN, NO_CLIENT, htype=32, hlen=0, chaddr=b""),
    discover("InfiniBand with 20 bytes of address", PLAIN, NO_CLIENT, htype=32, hlen=20),
    discover("Ethernet without an address, by option 61", PLAIN + option(61, b"\1abcdeg"), hlen=0),
    discover("Ethernet without an address and without option 61", PLAIN, NO_CLIENT, hlen=0),
    discover("Ethernet with an address of zeros, by option 61", PLAIN + option(61, b"\1abcdeh"), chaddr=bytes(6)),
    discover("Ethernet with an address of zeros and without option 61", PLAIN, NO_CLIENT, chaddr=bytes(6)),
    discover("Ethernet with one byte of address", PLAIN, hlen=1),
    discover("Ethernet with 8 bytes of address", PLAIN, hlen=8),
    discover("Ethernet with 16 bytes of address", PLAIN, hlen=16),
    discover("Ethernet with 17 bytes of address", PLAIN, NO_CLIENT, hlen=17),
    discover("Ethernet with 255 bytes of address", PLAIN, NO_CLIENT, hlen=255),
    discover("chaddr is not the sender of the frame", PLAIN, chaddr=b"\x52\x54\0\0\x02\1"),
    discover("chaddr is a group", PLAIN, chaddr=b"\x53\x54\0\0\x02\2"),
    # BOOTP, and what is none
    bootp("BOOTP", REQUEST_LIST),
    bootp("BOOTP without a cookie", b"", cookie=bytes(4), end=b""),
    bootp("BOOTP with the cookie of another vendor", b"", cookie=b"CMU\0", end=b""),
    bootp("BOOTP of 236 bytes", b"", cookie=b"", end=b"", size=236),
    # Size
    discover("bytes after END", PLAIN + b"\xff" + bytes(range(1, 40))),
    discover("options after END", PLAIN + b"\xff" + option(53, b"\3"), size=400),
    discover("no END", PLAIN, end=b"", size=0),
    discover("no END, and zeros", PLAIN, end=b""),
    discover("no padding", PLAIN, size=0),
    discover("1400 bytes", PLAIN, size=1400),
    discover("zeros between the options", MESSAGE_TYPE + bytes(20) + REQUEST_LIST),
    # Where it comes from
    discover("from port 1068", PLAIN, wire={"port": 1068}),
    discover("from the server's port", PLAIN, wire={"port": 67}),
    discover("from an address of old", PLAIN, wire={"source": "10.77.0.77"}),
    discover("from an address of its own making", PLAIN, wire={"source": "169.254.7.7"}),
    discover("from an address of another network", PLAIN, wire={"source": OTHER_NETWORK}),
    discover("to the server's address", PLAIN, wire={"source": "10.77.0.77", "destination": SERVER}),
    discover("to the network's broadcast address", PLAIN, wire={"source": "10.77.0.77", "destination": "10.77.0.255"}),
    discover("from nowhere to the server's address", PLAIN, DROPPED_BY_LINUX, wire={"destination": SERVER}),
    discover("from nowhere to the network", PLAIN, DROPPED_BY_LINUX, wire={"destination": "10.77.0.255"}),
    # The header
    discover("it wants no broadcast", PLAIN, flags=0),
    discover("all flags", PLAIN, flags=0xFFFF),
    discover("flags without a meaning", PLAIN, flags=0x7FFF),
    discover("xid 0", PLAIN, xid=0),
    discover("xid of ones", PLAIN, xid=0xFFFFFFFF),
    discover("secs 65535", PLAIN, secs=65535),
    discover("hops 255", PLAIN, hops=255),
    discover("ciaddr of this network", PLAIN, ciaddr="10.77.0.97"),
    discover("ciaddr of another network", PLAIN, ciaddr=OTHER_NETWORK),
    discover("ciaddr, and no broadcast", PLAIN, ciaddr="10.77.0.96", flags=0),
    discover("yiaddr and siaddr", PLAIN, yiaddr="10.77.0.95", siaddr=OTHER_NETWORK),
    discover("names in sname and file", PLAIN, sname=b"s" * 64, file=b"f" * 128),
    discover("op 2", PLAIN, NOT_A_REQUEST, op=2),
    discover("op 0", PLAIN, NOT_A_REQUEST, op=0),
    # Relays
    discover("by a relay", PLAIN, giaddr=RELAY, wire={"source": RELAY, "port": 67, "destination": SERVER}),
    discover("by a relay that broadcasts", PLAIN, giaddr=RELAY, hops=1),
    discover("by a relay with option 82", PLAIN + option(82, b"\1\4port"), giaddr=RELAY),
    discover("by a relay with an empty option 82", PLAIN + option(82, b""), giaddr=RELAY),
    discover("by a relay with a cut sub-option", PLAIN + option(82, b"\1\4po"), giaddr=RELAY),
    discover("option 82 without a relay", PLAIN + option(82, b"\1\4port")),
    discover("by a relay of an unknown network", PLAIN, UNKNOWN_NETWORK, giaddr=OTHER_NETWORK),
    discover("giaddr is the server's own address", PLAIN, WOULD_BE_OURSELVES, giaddr=SERVER),
    discover("giaddr is loopback", PLAIN, UNKNOWN_NETWORK, giaddr="127.0.0.1"),
    discover("giaddr is broadcast", PLAIN, UNKNOWN_NETWORK, giaddr="255.255.255.255"),
    # The selection of an offer
    selecting("a REQUEST", chosen),
    selecting("a REQUEST with option 54 twice", lambda client: chosen(client) + option(54, SERVER)),
    selecting("a REQUEST with option 50 twice", lambda client: option(50, client.address) + chosen(client)),
    selecting("a REQUEST with option 54 of 5 bytes", lambda c: option(50, c.address) + option(54, b"\x0a\x4d\0\1\0")),
    selecting("a REQUEST with option 54 of 3 bytes", lambda c: option(50, c.address) + option(54, b"\x0a\x4d\0")),
    selecting("a REQUEST with an empty option 54", lambda client: option(50, client.address) + option(54, b"")),
    selecting("a REQUEST with a cut option at its end", lambda c: chosen(c) + b"\x0c\x10ab", end=b"", size=0),
    selecting("a REQUEST with ciaddr", chosen, ciaddr="offered"),
    selecting("a REQUEST with a former address in ciaddr", chosen, ciaddr="10.77.0.94"),
    selecting("a REQUEST with ciaddr instead of option 50", lambda c: option(54, SERVER), ciaddr="offered"),
    selecting("a REQUEST without option 54", lambda client: option(50, client.address)),
    selecting("a REQUEST with another xid", chosen, xid=0x52000001),
    selecting("a REQUEST that wants no broadcast", chosen, flags=0),
    selecting("a REQUEST with 300 bytes of option 61", lambda c: chosen(c) + 2 * option(61, b"i" * 150)),
    selecting("a REQUEST by which it renews", lambda client: b"", ciaddr="offered", flags=0),
    selecting("a REQUEST for nothing", lambda client: b""),
    selecting("a REQUEST with option 54 only", lambda client: option(54, SERVER)),
    selecting("a REQUEST with option 50 of 3 bytes", lambda c: option(50, b"\x0a\x4d\0") + option(54, SERVER)),
    # INFORM
    inform("an INFORM", ciaddr="10.77.0.5"),
    inform("an INFORM without ciaddr", wire={"source": "10.77.0.5"}),
    inform("an INFORM from a network without a route", NO_ROUTE, ciaddr=OTHER_NETWORK),
]


def numbered_cases() -> Iterator[tuple[int, Case]]:
    return enumerate(CASES, 1)


def bootfw(host: Host, directory: Path) -> Program:
    return start_bootfw(
        host,
        directory,
        f"""
        [bootfw]
        state-dir = "{directory / "state"}"
        workers = 1
        [tftp]
        listen = []
        [dhcp]
        mode = "server"
        authoritative = true
        probe-seconds = 0
        new-clients-per-second = 0
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.10-10.77.0.240"]
        bootp = true
        """,
        67,
    )


def replies(lab: Lab, start: Callable[[Host, Path], Program]) -> dict[str, Reply]:
    """Name of a case -> what the server replied to it, if it did."""
    server = lab.host("server", f"{SERVER}/24")
    client_host = lab.host("clients", f"{RELAY}/24")
    start(server, lab.directory)
    server_mac = bytes.fromhex(
        server.run("cat", "/sys/class/net/eth0/address", seconds=10).output.strip().replace(":", "")
    )
    clients = RawClients.on_host(client_host, server_mac)
    try:
        clients.add_address("10.77.0.5", b"\x52\x54\0\0\x01\xfe")
        discovers = [Client(number).message_with(PLAIN) for number, case in numbered_cases() if case.selects]
        offers = clients.exchange(discovers)
        datagrams: dict[str, Datagram] = {}
        for number, case in numbered_cases():
            client = Client(number)
            if case.selects:
                client = Client(number, offers[client.xid].address)
                if "renews" in case.name:
                    clients.add_address(client.address, client.mac)
            datagrams[case.name] = case.build(client)
        received = clients.exchange(datagrams.values())
        return {name: received[datagram.xid] for name, datagram in datagrams.items() if datagram.xid in received}
    finally:
        clients.close()


@pytest.fixture(scope="module")
def bootfw_replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reply]:
    with Lab(tmp_path_factory.mktemp("bootfw")) as lab:
        return replies(lab, bootfw)


@pytest.fixture(scope="module")
def answered_by_both(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the cases that both other servers reply to."""
    with Lab(tmp_path_factory.mktemp("dnsmasq")) as lab:
        dnsmasq_replies = replies(lab, dnsmasq)
    with Lab(tmp_path_factory.mktemp("kea")) as lab:
        kea_replies = replies(lab, kea_dhcp4)
    for server_replies in (dnsmasq_replies, kea_replies):
        assert CASES[0].name in server_replies, "it does not even answer what is right"
    return dnsmasq_replies.keys() & kea_replies.keys()


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) < 255


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answered_messages_of_each_server(case: Case, bootfw_replies: dict[str, Reply]) -> None:
    reply = bootfw_replies.get(case.name)
    assert (reply and reply.message_type) == (None if case.not_answered else case.reply)


def test_messages_that_dnsmasq_and_kea_answer_are_answered(
    bootfw_replies: dict[str, Reply], answered_by_both: set[str]
) -> None:
    reasons = {case.name: case.not_answered for case in CASES}
    assert [name for name in answered_by_both - bootfw_replies.keys() if not reasons[name]] == []
