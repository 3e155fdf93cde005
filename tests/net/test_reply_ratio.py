"""The length of a reply is limited by that of its request, whose source may be forged; real clients lose nothing."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import firmware
import firmware6
import pytest
from dhcpports import boot_server6_port, boot_server_port, proxy6_port, proxy_port, server6_port, server_port
from hypothesis import example, given
from hypothesis import strategies as st
from narrowing import present
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.events import Event, OfferWithheld, RequestIgnored
from bootfw.interfaces import ILeaseStore
from bootfw.lease import Lease
from bootfw.net.dhcp.journal import Journal
from bootfw.net.dhcp.server6 import Server6
from bootfw.values import Address, Via
from bootfw.wire.dhcp4 import pack, parse
from bootfw.wire.dhcp6 import MessageType, Relay
from bootfw.wire.dhcp6 import pack as pack6
from bootfw.wire.options6 import Option

from .bypersona import ByPersona
from .lab6 import CLIENT, DUID
from .lab6 import Lab as Lab6

RATIO = 3
BOOTP_MINIMUM = 300
SERVER = "10.77.0.1"
PERSONAS = ["ipxe", "pxe-bios", "uefi", "u-boot", "open-firmware", "raspberry-pi"]
GLOBAL, RELAY = "fd77::99", "fd77::2"
UNICAST = Via("fd77::1", 2, "fd77::1")
OUR_SERVER_ID = (int(Option.SERVER_ID), DUID)
RELAY_PEER = (RELAY, 547, 0, 0)


def as_hex(value: bytes) -> dict[str, str]:
    """*value* as an option in a configuration."""
    return {"bytes": "0x" + value.hex()}


@implementer(ILeaseStore)
class NullStore:
    """A lease store that stores nothing."""

    def load(self) -> Iterable[Lease]:
        return ()

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


class Lab4:
    """A DHCPv4 port of one of the kinds in dhcpports, and its replies."""

    def __init__(
        self, make_port: Callable[..., Any], options: Mapping[str, object] = {}, name: str = "boot.file"
    ) -> None:
        clock = Clock()
        self.events: list[Event] = []
        self.sent: list[bytes] = []
        files = dict.fromkeys(PERSONAS, name) | {"uefi-http": "http://{server}/" + name}
        chain = ResolverChain(clock, [("by-persona", ByPersona(files))], self.events.append, 0.8)
        arguments: dict[str, AddressServer | Journal] = {}
        if make_port is server_port:
            subnets = [
                Subnet(network=f"10.{each}.0.0/24", pool=(f"10.{each}.0.100-10.{each}.0.200",), options=dict(options))
                for each in (77, 78)
            ]
            arguments = {
                "addresses": AddressServer(subnets),
                "journal": Journal(NullStore(), self.events.append, clock),
            }
        self.protocol = make_port(clock, chain, self.events.append, server=SERVER, **arguments)
        self.protocol.transport = self
        self.protocol.startProtocol()

    def setBroadcastAllowed(self, allowed: bool) -> None:
        pass

    def write(self, data: bytes, to: tuple[str, int]) -> None:
        self.sent.append(data)

    def replies_to(self, data: bytes, peer: Address = ("0.0.0.0", 68)) -> list[bytes]:
        self.protocol.datagramReceived(data, peer)
        replies, self.sent = self.sent, []
        self.protocol.close()
        return replies


class ServerLab6(Lab6):
    """A Lab6 with an address server, which adds the options *configured*."""

    def __init__(self, configured: Mapping[str, object] = {}, **options: Any) -> None:
        subnet = Subnet6(network="fd77::/64", pool=("fd77::100-fd77::1ff",), options=dict(configured))

        def make(
            reactor: Clock, chain: ResolverChain, publish: Callable[..., Any], duid: bytes, **arguments: Any
        ) -> Server6:
            addresses = AddressServer6([subnet], DUID, lambda wire, now: True)
            journal = Journal(NullStore(), publish, reactor)
            return server6_port(reactor, chain, publish, duid, addresses=addresses, journal=journal, **arguments)

        super().__init__(make, **options)


configurations = st.dictionaries(
    st.sampled_from(["vendor-specific", "224", "225", "226"]),
    st.integers(1, 1200).map(lambda size: as_hex(b"a" * size)),
)
values = st.binary(max_size=60)
requests = st.fixed_dictionaries(
    {53: st.sampled_from([b"\1", b"\3", b"\x08"])},
    optional={
        43: values,
        55: st.binary(max_size=30),
        57: st.sampled_from([b"\2\x40", b"\5\xdc", b"\xff\xff"]),
        60: st.sampled_from([b"PXEClient", b"PXEClient:Arch:00007:UNDI:003000", b"HTTPClient:Arch:00016", b"udhcp"]),
        61: st.binary(max_size=300),
        77: st.just(b"iPXE"),
        82: st.binary(max_size=300),
        93: st.sampled_from([b"\0\0", b"\0\7", b"\0\x10"]),
        97: st.just(firmware.UUID_ON_THE_WIRE),
        175: values,
    },
)


def datagram(options: Mapping[int, bytes], **header: Any) -> bytes:
    """A DHCPv4 message with just these options: without an end option or padding."""
    message = firmware.OVMF.message(options={}, **header)
    packed = b"".join(
        bytes((code, len(value[at : at + 255]))) + value[at : at + 255]
        for code, value in options.items()
        for at in range(0, max(1, len(value)), 255)
    )
    return pack(message, 1472)[:240] + packed


@given(
    st.sampled_from([proxy_port, boot_server_port, server_port]),
    requests | st.just({}),
    configurations,
    st.sampled_from(["n", "n" * 254, "{mac}.efi"]),
    st.sampled_from(["0.0.0.0", "10.78.0.1"]),
    st.sampled_from(["0.0.0.0", "10.77.0.9", "192.0.2.1"]),
    st.sampled_from([("0.0.0.0", 68), ("192.0.2.1", 53)]),
)
@example(
    server_port,
    {53: b"\1", 57: b"\xff\xff"},
    {"224": as_hex(b"a" * 1100)},
    "n",
    "10.78.0.1",
    "0.0.0.0",
    ("0.0.0.0", 68),
)
def test_a_dhcpv4_reply_is_at_most_three_times_its_request(
    make_port: Callable[..., Any],
    options: dict[int, bytes],
    configured: dict[str, dict[str, str]],
    name: str,
    giaddr: str,
    ciaddr: str,
    peer: tuple[str, int],
) -> None:
    data = datagram(options, giaddr=giaddr, ciaddr=ciaddr)
    lab = Lab4(make_port, configured, name)
    replies = lab.replies_to(data, peer)
    assert len(replies) <= 1
    assert sum(map(len, replies)) <= max(RATIO * len(data), BOOTP_MINIMUM)


def test_short_dhcpv4_request_gets_configured_options_up_to_the_ratio() -> None:
    """The address takes precedence over options, and a requested option over others."""
    lab = Lab4(server_port, {"224": as_hex(b"a" * 300), "225": as_hex(b"b" * 300)})
    data = datagram({53: b"\1", 57: b"\5\xdc", 55: b"\xe1"})
    [reply] = map(parse, lab.replies_to(data))
    assert reply.yiaddr == "10.77.0.100"
    assert (reply.options.get(224), reply.options[225]) == (None, b"b" * 300)


def test_padded_dhcpv4_request_gets_all_configured_options() -> None:
    lab = Lab4(server_port, {"224": as_hex(b"a" * 300), "225": as_hex(b"b" * 300)})
    [reply] = map(parse, lab.replies_to(datagram({53: b"\1", 57: b"\5\xdc", 55: b"\xe1"}).ljust(300, b"\0")))
    assert (reply.options[224], reply.options[225]) == (b"a" * 300, b"b" * 300)


def test_without_option_57_the_ratio_does_not_limit_the_reply() -> None:
    """The shortest DHCP message has 240 bytes, and no reply to one without option 57 has more than 548."""
    lab = Lab4(server_port, {"224": as_hex(b"a" * 240)})
    [reply] = lab.replies_to(datagram({53: b"\1"}))
    assert parse(reply).options[224] == b"a" * 240


EVERY_CLIENT = [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS, *firmware.ORDINARY_CLIENTS, *firmware.NETWORK_GEAR]
EVERY_CLIENT += [firmware.RASPBERRY_PI_3, firmware.RASPBERRY_PI_4, firmware.FREEBSD_LOADER]


@pytest.mark.parametrize("giaddr", ["0.0.0.0", "10.78.0.1"])
@pytest.mark.parametrize("client", EVERY_CLIENT, ids=lambda client: client.name)
@pytest.mark.parametrize("make_port", [server_port, proxy_port, boot_server_port])
def test_captured_dhcpv4_client_gets_the_same_reply_to_a_request_without_padding(
    make_port: Callable[..., Any], client: firmware.Client, giaddr: str
) -> None:
    """The request without padding gets the same reply as one padded to 548 bytes, with a boot file of a long name."""
    options = {
        "domain-name-server": ["10.77.0.2", "10.77.0.3"],
        "domain-name": "a" * 60,
        "ntp-servers": ["10.77.0.4", "10.77.0.5"],
    }
    message_type = {53: b"\3"} if make_port is boot_server_port else {}
    client_options = {**client.options, **message_type}
    data = datagram(client_options, giaddr=giaddr, chaddr=client.chaddr, flags=client.flags) + b"\xff"
    name = "n" * 230
    replies = Lab4(make_port, options, name).replies_to(data)
    assert replies == Lab4(make_port, options, name).replies_to(data.ljust(548, b"\0"))
    if make_port is server_port:
        assert len(replies) == 1


v6_kinds = st.sampled_from(
    [MessageType.SOLICIT, MessageType.REQUEST, MessageType.INFORMATION_REQUEST, MessageType.REBIND, MessageType.RENEW]
)
v6_clients = st.sampled_from(
    [
        firmware6.OVMF,
        firmware6.OVMF_HTTP,
        firmware6.IPXE,
        firmware6.LINUX,
        firmware6.Client({1: b"\0"}),
        firmware6.Client({}),
    ]
)
v6_configured = st.dictionaries(
    st.sampled_from(["65000", "65001", "65002"]), st.integers(1, 900).map(lambda size: {"text": "x" * size})
)


@given(v6_kinds, v6_clients, st.booleans(), st.booleans(), v6_configured, st.sampled_from([ServerLab6, Lab6, "4011"]))
@example(
    MessageType.INFORMATION_REQUEST, firmware6.Client({}), False, False, {"65000": {"text": "x" * 900}}, ServerLab6
)
@example(MessageType.REQUEST, firmware6.OVMF, True, True, {}, "4011")
def test_a_dhcpv6_reply_to_an_address_that_is_not_link_local_is_at_most_three_times_its_request(
    kind: MessageType,
    client: firmware6.Client,
    unicast: bool,
    with_server_id: bool,
    configured: dict[str, dict[str, str]],
    service: type[ServerLab6] | str | type[Lab6],
) -> None:
    lab = (
        ServerLab6(configured)
        if service is ServerLab6
        else Lab6(boot_server6_port if service == "4011" else proxy6_port)
    )
    message = client.message(
        kind, *([OUR_SERVER_ID] if with_server_id else []), ia=None if kind is MessageType.INFORMATION_REQUEST else b""
    )
    data = pack6(message)
    replies = [
        pack6(answer)
        for answer, _, _ in [
            *lab.replies_to(data, (GLOBAL, 546, 0, 2), UNICAST if unicast else Via("", 2, "ff02::1:2")),
            *lab.repeated(),
        ]
    ]
    assert sum(map(len, replies)) <= RATIO * len(data)


@given(v6_clients, st.lists(st.binary(max_size=40), min_size=1, max_size=4), v6_configured)
def test_dhcpv6_relay_gets_configured_options_up_to_three_times_its_request(
    client: firmware6.Client, interface_ids: list[bytes], configured: dict[str, dict[str, str]]
) -> None:
    relays = [Relay(0, "fd77::2", firmware6.LINK_LOCAL, ((int(Option.INTERFACE_ID), each),)) for each in interface_ids]
    data = firmware6.relayed(client.message(), *relays)

    def reply_length(configured: Mapping[str, dict[str, str]]) -> int:
        return sum(
            len(pack6(answer, reply_relays))
            for answer, reply_relays, _ in ServerLab6(configured).replies_to(data, RELAY_PEER, UNICAST)
        )

    assert reply_length(configured) <= max(RATIO * len(data), reply_length({}))


V6_OPTIONS = {"dns-servers": ["fd77::2", "fd77::3"], "domain-list": ["lab.example"]}
V6_CLIENTS = {
    "OVMF": firmware6.OVMF,
    "OVMF HTTP": firmware6.OVMF_HTTP,
    "iPXE": firmware6.IPXE,
    "Linux": firmware6.LINUX,
}


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("client", V6_CLIENTS.values(), ids=list(V6_CLIENTS))
def test_every_captured_dhcpv6_client_gets_its_address_file_and_requested_options(
    client: firmware6.Client, relayed: bool
) -> None:
    lab = ServerLab6(V6_OPTIONS)
    message = client.message()
    if relayed:
        ((answer, _, _),) = lab.replies_to(
            firmware6.relayed(message, Relay(0, "fd77::2", CLIENT[0])), RELAY_PEER, UNICAST
        )
    else:
        answer = lab.reply_to(message)
    assert answer.first(Option.IA_NA) is not None
    requested = struct.unpack(f"!{len(client.options[6]) // 2}H", client.options[6])
    sent = {code for code, _ in answer.options}
    assert {23, 24} & {*requested} <= sent
    assert (Option.BOOTFILE_URL in sent) == (client is not firmware6.LINUX)


@pytest.mark.parametrize("name", ["n" * 150, "n" * 230])
def test_relayed_client_gets_address_and_file_before_configured_options(name: str) -> None:
    """Even if address and file alone are more than three times as long as the request."""
    lab = ServerLab6(V6_OPTIONS | {"65000": {"text": "x" * 900}})
    lab.resolver.files["ipxe"] = url = "http://[fd77::1]/" + name
    request = firmware6.relayed(firmware6.IPXE.message(), Relay(0, RELAY, firmware6.LINK_LOCAL))
    ((answer, _, _),) = lab.replies_to(request, RELAY_PEER, UNICAST)
    assert answer.first(Option.IA_NA) is not None
    assert answer.first(Option.BOOTFILE_URL) == url.encode()
    assert answer.first(65000) is None


def test_a_relay_with_a_link_local_address_gets_all_options() -> None:
    lab = ServerLab6({"65000": {"text": "x" * 900}})
    request = firmware6.relayed(firmware6.Client({1: b"c"}).message(), Relay(0, RELAY, firmware6.LINK_LOCAL))
    ((answer, _, _),) = lab.replies_to(request, ("fe80::2", 547, 0, 2))
    assert answer.first(65000) == b"x" * 900


def test_edk2_gets_its_file_from_a_global_address_on_port_4011() -> None:
    lab = Lab6(boot_server6_port)
    lab.resolver.files["uefi-v6"] = "n" * 220
    answer = lab.reply_to(firmware6.OVMF.message(MessageType.REQUEST, OUR_SERVER_ID), (GLOBAL, 4011, 0, 2), UNICAST)
    assert present(answer.first(Option.BOOTFILE_URL)).endswith(b"n" * 220)


@pytest.mark.parametrize("link_local", ["fe80::1", "febf::1"])
def test_a_client_at_a_link_local_address_gets_all_options(link_local: str) -> None:
    lab = ServerLab6({"65000": {"text": "x" * 900}})
    message = firmware6.Client({}).message(MessageType.INFORMATION_REQUEST, ia=None)
    [(answer, _, _)] = lab.replies_to(message, (link_local, 546, 0, 2))
    assert answer.first(65000) == b"x" * 900


@pytest.mark.parametrize("source", ["fec0::1", "fe8::1", "fd77::9", "2001:db8::fe80", "::1"])
def test_the_shortest_request_from_another_address_is_not_answered(source: str) -> None:
    """It has four bytes: the server identifier alone is longer than three times that."""
    lab = ServerLab6()
    assert (
        lab.replies_to(firmware6.Client({}).message(MessageType.INFORMATION_REQUEST, ia=None), (source, 546, 0, 0))
        == []
    )
    [ignored] = lab.events_of(RequestIgnored)
    assert "3 times a request" in ignored.reason


def test_proxy_reports_why_a_reply_beyond_the_ratio_is_withheld() -> None:
    lab = Lab6()
    lab.resolver.files["ipxe"] = "http://[fd77::1]/" + "n" * 230
    message = firmware6.Client({15: b"\0\4iPXE"}).message(MessageType.INFORMATION_REQUEST, ia=None)
    assert lab.replies_to(message, (GLOBAL, 546, 0, 2)) == []
    [withheld] = lab.events_of(OfferWithheld)
    assert "3 times a request" in withheld.reason
