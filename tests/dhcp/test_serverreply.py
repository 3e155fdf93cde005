"""The replies of a DHCP server to each client; scapy parses them too."""

from itertools import pairwise

import firmware
import pytest
from firmware import Client
from hypothesis import given
from hypothesis import strategies as st
from leasing import ACK, BY_BROADCAST, NAK, OFFER, SERVER, server, subnet
from narrowing import of_type
from scapy.layers.dhcp import BOOTP, DHCP

from bootfw.dhcp.answer import Answer, Arrival
from bootfw.dhcp.classify import classify
from bootfw.dhcp.reply import server_reply
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse, reply_size

PERSONAS = stock()
FILE = BootFile("boot.file")
USE_BOOT_FILE = b"\6\1\x08\xff"
FULL = subnet(dns=["10.77.0.1", "10.77.0.2"], domain="lab.example", options={"ntp-servers": ["10.77.0.3"]})


def reply_to(
    message: Message, file: BootFile | None = None, dhcp: AddressServer | None = None, arrival: Arrival = BY_BROADCAST
) -> Message:
    """The reply, packed and parsed again; scapy has read the same fields."""
    answer = (dhcp or server(FULL)).handle(message, arrival, 1000.0)
    assert isinstance(answer, Answer), answer
    found = classify(message, PERSONAS.match, assigns_addresses=True, server=SERVER)
    if isinstance(found, BootRequest):
        reply = server_reply(message, answer, found, file, PERSONAS.by_name[found.persona])
    else:
        reply = server_reply(message, answer)
    data = pack(reply, reply_size(message))
    assert parse(data) == reply
    bootp = BOOTP(data)
    assert (bootp.op, bootp.yiaddr, bootp.siaddr, bootp.giaddr) == (2, reply.yiaddr, reply.siaddr, reply.giaddr)
    if answer.kind is not None:
        options = [option if isinstance(option, str) else option[0] for option in bootp[DHCP].options]
        assert options[:2] == ["message-type", "server_id"]
        assert "end" in options
    return reply


def request_of(client: Client, **options: bytes) -> Message:
    return client.changed({53: b"\3", 50: bytes((10, 77, 0, 100)), 54: bytes((10, 77, 0, 1))}).message()


ALL_CLIENTS = [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS, *firmware.ORDINARY_CLIENTS]


@pytest.mark.parametrize("client", ALL_CLIENTS, ids=lambda client: client.name)
def test_offer_and_ack_have_the_same_options(client: Client) -> None:
    dhcp = server(FULL)
    offer = reply_to(client.message(), FILE, dhcp)
    ack = reply_to(request_of(client), FILE, dhcp)

    assert (offer.message_type, ack.message_type) == (OFFER, ACK)
    assert offer.yiaddr == ack.yiaddr == "10.77.0.100"
    assert offer.siaddr == ack.siaddr == SERVER
    assert offer.file == ack.file
    assert {**offer.options, 53: b""} == {**ack.options, 53: b""}
    assert (offer.xid, offer.chaddr, offer.htype, offer.hlen) == (firmware.XID, firmware.MAC, 1, 6)
    assert (offer.flags, offer.secs, offer.hops, offer.ciaddr) == (client.flags, 0, 0, "0.0.0.0")
    assert offer.options[1] == bytes((255, 255, 255, 0)), "EDK2 reads it in the OFFER"
    assert offer.options[54] == bytes((10, 77, 0, 1))
    assert offer.options.get(61) == client.options.get(61)
    assert {3, 6, 15, 42, 51} <= offer.options.keys()
    assert 13 not in offer.options


@pytest.mark.parametrize("client", ALL_CLIENTS, ids=lambda client: client.name)
def test_no_client_is_sent_to_port_4011(client: Client) -> None:
    """EDK2 goes there when it finds option 60 without option 43 (UefiPxeBcDxe/PxeBcDhcp4.c)."""
    offer = reply_to(client.message(), FILE)

    if offer.options.get(60, b"").startswith(b"PXEClient"):
        assert offer.options[43] == USE_BOOT_FILE


@pytest.mark.parametrize("client", [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS], ids=lambda client: client.name)
def test_file_of_a_boot_client_is_in_the_header_and_in_option_67(client: Client) -> None:
    offer = reply_to(client.message(), FILE)

    assert offer.options[67] == b"boot.file\0"
    assert offer.file == b"boot.file"
    assert offer.options.get(97) == client.options.get(97)


ORDINARY_CLIENTS = [client for client in firmware.ORDINARY_CLIENTS if client is not firmware.SLOF]


def test_client_that_requests_a_boot_file_gets_it_with_its_server_without_pxe_options() -> None:
    offer = reply_to(firmware.DHCLIENT.changed({55: b"\1\3\x42\x43"}).message(), FILE)

    assert (offer.options[67], offer.file, offer.options[66]) == (b"boot.file\0", b"boot.file", SERVER.encode())
    assert not {43, 60, 175} & offer.options.keys()
    assert offer.options[51] == (3600).to_bytes(4, "big")


def test_possible_system_keeps_its_configured_boot_file() -> None:
    configured = {"vendor-specific": "0xf1040a4d0001", "vendor-class-identifier": "AP", "tftp-server-name": "10.77.0.9"}
    dhcp = server(subnet(options=configured))
    offer = reply_to(firmware.DHCLIENT.changed({55: b"\x2b\x42\x43"}).message(), FILE, dhcp)

    assert (offer.options[43], offer.options[60]) == (bytes.fromhex("f1040a4d0001"), b"AP")
    assert (offer.options[66], offer.options[67]) == (b"10.77.0.9", b"boot.file\0")


@pytest.mark.parametrize("client", ORDINARY_CLIENTS, ids=lambda client: client.name)
def test_reply_to_other_clients_names_no_file(client: Client) -> None:
    offer = reply_to(client.message(), FILE)

    assert not {43, 60, 67, 97, 175} & offer.options.keys()
    assert offer.file == b""


def test_a_bios_rom_gets_use_boot_file() -> None:
    offer = reply_to(firmware.BIOS_ROM.message(), FILE)

    assert (offer.options[60], offer.options[43]) == (b"PXEClient", USE_BOOT_FILE)


@pytest.mark.parametrize("client", [firmware.OVMF, *firmware.U_BOOTS], ids=lambda client: client.name)
def test_a_client_that_takes_the_file_of_its_dhcp_server_gets_no_option_43(client: Client) -> None:
    assert not {43, 60, 175} & reply_to(client.message(), FILE).options.keys()


def test_http_boot_reply_has_the_vendor_class() -> None:
    offer = reply_to(firmware.OVMF_HTTP.message(), BootFile("http://10.77.0.1/boot.efi"))

    assert offer.options[60] == b"HTTPClient"
    assert 43 not in offer.options


@pytest.mark.parametrize("client", [firmware.IPXE_ROM, firmware.SNPONLY], ids=lambda client: client.name)
def test_ipxe_with_a_file_is_told_not_to_wait_for_a_proxy(client: Client) -> None:
    assert reply_to(client.message(), FILE).options[175] == b"\xb0\1\1\xff"
    assert 175 not in reply_to(client.message()).options


def test_file_may_name_another_server() -> None:
    offer = reply_to(firmware.OVMF.message(), BootFile("x", "10.77.0.9"))

    assert (offer.siaddr, offer.options[54]) == ("10.77.0.9", bytes((10, 77, 0, 1)))


def test_long_file_name_is_in_the_option_only() -> None:
    offer = reply_to(firmware.OVMF.message(), BootFile("n" * 200))

    assert (offer.options[67], offer.file) == (b"n" * 200 + b"\0", b"")


# Configured options


def test_options_for_other_devices_are_not_sent_to_booting_firmware() -> None:
    """Option 43 of a wireless controller stops ROMs for minutes."""
    dhcp = server(subnet(options={"vendor-specific": "0xf1040a4d0001", "vendor-class-identifier": "AP"}))

    assert not {43, 60} & reply_to(firmware.OVMF.message(), FILE, dhcp).options.keys()
    assert reply_to(firmware.DHCLIENT.message(), None, dhcp).options[43] == bytes.fromhex("f1040a4d0001")


def test_a_configured_file_is_sent_when_no_resolver_has_one() -> None:
    dhcp = server(subnet(options={"bootfile-name": "configured"}))

    assert reply_to(firmware.OVMF.message(), None, dhcp).options[67] == b"configured"
    assert reply_to(firmware.OVMF.message(), FILE, dhcp).options[67] == b"boot.file\0"


def test_of_options_that_do_not_fit_the_unrequested_ones_are_left_out_first() -> None:
    many = {str(code): {"text": "x" * 60} for code in (224, 225, 226, 227, 228)}
    dhcp = server(subnet(options={**many, "ntp-servers": "10.77.0.3", "domain-name": "lab"}))
    client_message = firmware.UDHCPC.changed({57: None, 55: bytes((1, 3, 15, 227, 42))}).message()

    sent = reply_to(client_message, None, dhcp).options

    assert {1, 3, 15, 42, 51, 54, 227} <= sent.keys()
    assert len(sent.keys() & {224, 225, 226, 228}) == 3
    assert {224, 225, 226, 227, 228} <= reply_to(firmware.DHCPCD.message(), None, dhcp).options.keys()


def test_an_echoed_client_identifier_is_dropped_last() -> None:
    """The longer it is, the more options it displaces; once it is dropped itself, the others are sent again."""
    dhcp = server(subnet(options={"ntp-servers": "10.77.0.3", "224": {"text": "x" * 30}}))
    sent = []
    for length in range(150, 300):
        client = firmware.BIOS_ROM.changed({57: None, 55: b"\1\3\xe0", 61: b"c" * length})
        sent.append(frozenset(reply_to(client.message(), BootFile("n" * 20), dhcp).options))

    first_without_identifier = next(at for at, codes in enumerate(sent) if 61 not in codes)
    dropped = [code for earlier, later in pairwise(sent[:first_without_identifier]) for code in sorted(earlier - later)]
    assert list(dict.fromkeys(dropped)) == [42, 224, 3, 97]
    assert sent[first_without_identifier - 1] == {1, 43, 51, 53, 54, 60, 61, 67}
    assert set(sent[first_without_identifier:]) == {sent[0] - {61}}


def test_a_nak_drops_its_reason_before_the_client_identifier() -> None:
    request = {53: b"\3", 50: bytes((192, 168, 1, 5))}
    long, longer = (firmware.DHCLIENT.changed({**request, 61: b"c" * length}).message() for length in (280, 320))

    assert reply_to(long).options.keys() == {53, 54, 61}
    assert reply_to(longer).options.keys() == {53, 54, 56}


def test_relay_option_is_echoed_whatever_its_size() -> None:
    for length in (100, 255, 300, 900, 1400):
        agent = bytes((1, 255)) + bytes(length)
        client = firmware.BIOS_ROM.changed({57: None, 61: b"c" * 200, 82: agent})
        offer = reply_to(client.message(giaddr="10.77.0.2"), BootFile("n" * 30))
        assert (offer.options[82], offer.options[67]) == (agent, b"n" * 30 + b"\0")
        assert offer.options[61] == b"c" * 200


def test_size_of_a_configured_boot_file_includes_its_pad() -> None:
    """It is one byte longer on the wire than other options are."""
    for length in range(200, 270):
        dhcp = server(subnet(options={"bootfile-name": "n" * length, "224": {"text": "x" * 20}}))
        assert len(pack(reply_to(firmware.DHCLIENT.message(), None, dhcp))) <= 548


@given(
    st.lists(st.integers(1, 300), max_size=20),
    st.binary(max_size=20),
    st.integers(0, 1500),
    st.integers(0, 254),
    st.integers(0, 600),
    st.integers(0, 400),
)
def test_every_reply_fits(
    sizes: list[int], requested: bytes, maximum: int, name: int, agent: int, identifier: int
) -> None:
    """Whatever is sent and configured, the client learns its address and its file."""
    dhcp = server(subnet(options={200 + at: b"x" * size for at, size in enumerate(sizes)}))
    options = {57: maximum.to_bytes(2, "big"), 55: requested, 82: b"c" * agent, 61: b"i" * identifier}
    message = firmware.IPXE_ROM.changed(options).message(giaddr="10.77.0.1")
    answer = dhcp.handle(message, Arrival(SERVER, unicast=True), 1000.0)
    found = classify(message, PERSONAS.match, assigns_addresses=True, server="10.77.0.9")

    reply = server_reply(
        message, of_type(Answer, answer), of_type(BootRequest, found), BootFile("n" * name) if name else None
    )

    assert len(pack(reply, reply_size(message))) <= reply_size(message)
    assert {1, 51, 53, 54} <= reply.options.keys()
    assert reply.options[82] == message.options[82]
    assert reply.options.get(67) == (b"n" * name + b"\0" if name else None)


# NAK, INFORM, BOOTP, relays


def test_a_nak_has_a_reason_and_no_other_options() -> None:
    message = firmware.DHCPCD.changed({53: b"\3", 50: bytes((192, 168, 1, 5))}).message()

    nak = reply_to(message)

    assert nak.message_type is NAK
    assert nak.options == {
        53: b"\6",
        54: bytes((10, 77, 0, 1)),
        61: b"\1" + firmware.MAC,
        56: b"192.168.1.5 is not of this network",
    }
    assert (nak.yiaddr, nak.siaddr, nak.ciaddr) == ("0.0.0.0", "0.0.0.0", "0.0.0.0")


def test_nak_by_a_relay_has_the_broadcast_flag() -> None:
    message = firmware.DHCLIENT.changed({53: b"\3", 50: bytes((192, 168, 1, 5))}).message(giaddr="10.77.0.2")

    nak = reply_to(message)

    assert (nak.flags, nak.giaddr) == (0x8000, "10.77.0.2")


def test_inform_is_answered_without_an_address() -> None:
    message = firmware.DHCPCD.changed({53: b"\x08"}).message(ciaddr="10.77.0.9")

    ack = reply_to(message)

    assert (ack.message_type, ack.yiaddr, ack.ciaddr) == (ACK, "0.0.0.0", "10.77.0.9")
    assert 51 not in ack.options


def test_an_ack_of_a_renewal_has_the_address_in_yiaddr_and_ciaddr() -> None:
    message = firmware.DHCPCD.changed({53: b"\3"}).message(ciaddr="10.77.0.105")

    ack = reply_to(message, arrival=Arrival(SERVER, unicast=True))

    assert (ack.yiaddr, ack.ciaddr) == ("10.77.0.105", "10.77.0.105")


def test_bootp_is_answered_without_a_type() -> None:
    reserved = Host(address="10.77.0.20", mac=firmware.MAC_TEXT)
    message = firmware.BIOS_ROM.message(options={})

    reply = reply_to(message, None, server(subnet(hosts=[reserved])))

    assert (reply.message_type, reply.yiaddr, reply.siaddr) == (None, "10.77.0.20", SERVER)
    assert reply.options == {1: bytes((255, 255, 255, 0)), 3: bytes((10, 77, 0, 1))}
    assert len(pack(reply)) == 300


def test_relay_option_is_echoed_as_the_last_option() -> None:
    agent = b"\1\4eth0\2\2ab"
    message = firmware.DHCLIENT.changed({82: agent}).message(giaddr="10.77.0.2")

    offer = reply_to(message)

    assert offer.options[82] == agent
    assert list(parse(pack(offer)).options)[-1] == 82


def test_option_82_of_a_client_is_not_echoed() -> None:
    message = firmware.DHCLIENT.changed({82: b"\1\4eth0"}).message()

    assert 82 not in reply_to(message).options


def test_server_id_override_of_a_relay_does_not_change_siaddr() -> None:
    """RFC 5107."""
    message = firmware.OVMF.changed({82: b"\x0b\4" + bytes((10, 77, 0, 9))}).message(giaddr="10.77.0.9")

    offer = reply_to(message, FILE)

    assert (offer.options[54], offer.siaddr) == (bytes((10, 77, 0, 9)), SERVER)


# Random messages


short_bytes = st.binary(max_size=20)
addresses = st.sampled_from(["0.0.0.0", "10.77.0.1", "10.77.0.100", "10.77.0.101", "255.255.255.255", "127.0.0.1"])
raw_addresses = addresses.map(lambda text: bytes(map(int, text.split(".")))) | short_bytes
any_message = st.builds(
    Message,
    op=st.sampled_from([1, 1, 1, 2]),
    htype=st.sampled_from([1, 6, 32]),
    hlen=st.just(6),
    xid=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([0, 0x8000]),
    ciaddr=addresses,
    giaddr=addresses,
    chaddr=st.sampled_from([b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", bytes(6)]),
    options=st.fixed_dictionaries(
        {},
        optional={
            53: st.sampled_from([bytes((kind,)) for kind in MessageType]),
            50: raw_addresses,
            54: raw_addresses,
            55: short_bytes,
            57: short_bytes,
            60: short_bytes | st.just(b"PXEClient"),
            61: short_bytes,
            77: short_bytes | st.just(b"iPXE"),
            82: short_bytes | st.builds(lambda raw: b"\x05\4\x0a\x4d\0\1\x0b\4" + raw[:4], raw_addresses),
            97: short_bytes,
        },
    ),
)


@given(st.lists(any_message, max_size=12), st.booleans(), st.booleans(), st.booleans())
def test_any_message_gets_a_valid_reply_or_none(
    messages: list[Message], unicast: bool, authoritative: bool, by_client_id: bool
) -> None:
    dhcp = server(
        Subnet(network="10.77.0.0/24", pool=["10.77.0.100-10.77.0.102"], bootp=True),
        authoritative=authoritative,
        by_client_id=by_client_id,
    )
    for now, message in enumerate(messages):
        answer = dhcp.handle(message, Arrival(SERVER, unicast), float(now))
        if isinstance(answer, Answer):
            reply = parse(pack(server_reply(message, answer), 1472))
            assert (reply.op, reply.xid, reply.chaddr) == (2, message.xid, message.chaddr)
            assert reply.yiaddr in ("0.0.0.0", "10.77.0.100", "10.77.0.101", "10.77.0.102")
