"""Targets: packets of TFTP, DHCPv4 and DHCPv6, their options, and their classification."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import firmware
import firmware6
import frisbeecaptures
from attrs import evolve

from bootfw.dhcp.bootfile import adapt
from bootfw.dhcp.classify import classify, classify6
from bootfw.dhcp.identity import client_mac, identify, is_firmware, is_firmware6
from bootfw.errors import WireError
from bootfw.frisbee.pace import Pace
from bootfw.frisbee.session import Input, Session
from bootfw.personas.table import stock
from bootfw.storm import frames
from bootfw.tftp.negotiation import Limits, negotiate
from bootfw.tftp.path import relative
from bootfw.values import BootFile, BootRequest, Mode
from bootfw.wire import dhcp4, dhcp6, executable, frisbee, frisbeemaster, options, options6, pxe, tftp
from bootfw.wire.dhcp4 import MessageType as MessageType4
from bootfw.wire.dhcp6 import MessageType
from bootfw.wire.options6 import Option as Option6
from fuzz.target import Target

_ROLES = ((False, False), (True, False), (False, True))
"""(boot server, gives addresses): a proxy, its port 4011, and a server."""
_LIMITS = Limits(max_blksize=1468, max_windowsize=64)

# TFTP


def tftp_packet(data: bytes) -> None:
    """parse() raises WireError only, and each packet survives its own encoding."""
    try:
        packet = tftp.parse(data)
    except WireError:
        return
    assert tftp.parse(_tftp_bytes(packet)) == packet
    if isinstance(packet, tftp.Request):
        assert relative(relative(packet.filename)) == relative(packet.filename)
        for mode in Mode:
            agreed = negotiate(packet.options, write=packet.write, mode=mode, size=70_000, limits=_LIMITS)
            assert 8 <= agreed.blksize <= 1468
            assert 1 <= agreed.windowsize <= 64
            requested = {name for name, _ in packet.options}
            assert {name for name, _ in agreed.acknowledged} <= requested


def _tftp_bytes(packet: tftp.Packet) -> bytes:
    if isinstance(packet, tftp.Request):
        return tftp.request(packet.write, packet.filename, packet.mode, packet.options)
    if isinstance(packet, tftp.OptionAck):
        return tftp.option_ack(packet.options)
    if isinstance(packet, tftp.Data):
        return tftp.data(packet.block, packet.payload)
    if isinstance(packet, tftp.Ack):
        return tftp.ack(packet.block)
    # Not tftp.error(), which cuts the message.
    return b"\0\5" + packet.code.to_bytes(2, "big") + packet.message.encode("utf-8", "surrogateescape") + b"\0"


def tftp_requests() -> Iterator[bytes]:
    """As firmware sends them (docs/firmware.md), and one of each other packet."""
    for options_of_client in (
        (),
        (("tsize", "0"),),
        (("tsize", "0"), ("blksize", "1468")),
        (("blksize", "1432"), ("tsize", "0")),
        (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")),
        (("timeout", "5"), ("tsize", "0"), ("blksize", "1468"), ("windowsize", "64")),
    ):
        for name in ("boot/loader", "\\boot\\x86\\wdsnbp.com", "/pxelinux.cfg/01-52-54-00-12-34-56", "../etc/passwd"):
            yield tftp.request(False, name, "octet", options_of_client)
    yield tftp.request(True, "core/dump", "netascii", (("tsize", "100"),))
    yield tftp.request(False, "boot/loader", "netascii")
    yield tftp.data(1, b"a\r\nb\r\0c")
    yield tftp.ack(65535)
    yield tftp.error(8, "User aborted the transfer")
    yield tftp.option_ack((("blksize", "1408"), ("tsize", "5")))


# DHCPv4


def dhcp4_message(data: bytes) -> None:
    """parse() raises WireError only, and what it reads survives encoding."""
    try:
        message = dhcp4.parse(data)
    except WireError:
        return
    assert message.size == len(data)
    assert dhcp4.reply_size(message) <= max(dhcp4.REPLY_RATIO * len(data), dhcp4.MINIMUM_SIZE)
    is_firmware(message)
    identify(message, {})
    identify(message, {}, by_client_id=True)
    # A client may leave no room for the NUL; what we send always has one.
    if len(message.sname) <= dhcp4.SNAME_MAX and len(message.file) <= dhcp4.FILE_MAX:
        assert dhcp4.parse(dhcp4.pack(message, 65535)) == message


def dhcp4_client(data: bytes) -> None:
    """Whatever a client says of itself, it is classified, and gets a boot file or a reason why not."""
    with suppress(WireError):
        message = dhcp4.parse(data)
        for boot_server, addresses in _ROLES:
            request = classify(
                message,
                stock().match,
                boot_server=boot_server,
                assigns_addresses=addresses,
                server="10.0.0.1",
                own_urls=("http://10.0.0.1", ""),
            )
            _adapt(request)


_ADDRESS, _SERVER = b"\x0a\0\0\x0a", b"\x0a\0\0\1"
TO_BOOT_SERVER = len(firmware.BOOT_CLIENTS) + 1
"""How many of dhcp4_requests() are for port 4011: the first ones."""
AFTER_LEASES = TO_BOOT_SERVER + 18
"""Where its requests of clients that have no address yet begin."""
LEASED = [TO_BOOT_SERVER + offset for offset in (4, 2, 3, 0, 1, 5)]
"""What iPXE does with an address, in dhcp4_requests(): REQUEST, renewal, INFORM, DECLINE, RELEASE; and BOOTP."""
LEASED6 = [5, 6, 3, 4, 8, 7]
"""What EDK2 does with an address, in dhcp6_requests(): REQUEST, RENEW, CONFIRM, REBIND, DECLINE, RELEASE."""


def dhcp4_requests() -> Iterator[bytes]:
    """Yield the requests of every client in tests/firmware.py, and some that are overloaded, relayed or split."""
    for client in firmware.BOOT_CLIENTS:
        yield dhcp4.pack(firmware.boot_server_request(client), 1472)
    yield dhcp4.pack(firmware.ipxe_boot_item_request(), 1472)
    for client in (firmware.IPXE_ROM, firmware.OVMF, firmware.DHCLIENT):
        options = {**client.options, 54: _SERVER}
        yield client.datagram(options={**options, 53: bytes((MessageType4.DECLINE,)), 50: _ADDRESS})
        yield client.datagram(ciaddr="10.0.0.10", options={**options, 53: bytes((MessageType4.RELEASE,))})
        yield client.datagram(ciaddr="10.0.0.10", options={**client.options, 53: firmware.REQUEST})
        yield client.datagram(ciaddr="10.0.0.10", options={**client.options, 53: firmware.INFORM})
        yield client.datagram(options={**client.options, 53: firmware.REQUEST, 50: _ADDRESS})
        yield client.datagram(options={})
    clients = [
        *firmware.BOOT_CLIENTS,
        *firmware.ORDINARY_CLIENTS,
        *firmware.NETWORK_GEAR,
        *firmware.U_BOOTS,
        firmware.RASPBERRY_PI_3,
        firmware.RASPBERRY_PI_4,
        firmware.FREEBSD_LOADER,
    ]
    for client in clients:
        yield client.datagram()
        yield client.datagram(giaddr="10.0.0.2", options={**client.options, 82: b"\1\4port\2\4host"})
        yield client.datagram(options={**client.options, 53: firmware.REQUEST, 50: _ADDRESS, 54: _SERVER})
    yield firmware.IPXE_ROM.datagram(options={53: b"\1", 43: bytes(300), 60: b"PXEClient"})
    yield _overloaded(firmware.OVMF)
    yield dhcp4.pack(evolve(firmware.OVMF.message(), options={}))[:236]


def _overloaded(client: firmware.Client) -> bytes:
    """With options in sname and file (option 52)."""
    data = bytearray(client.datagram(options={53: b"\1"}))
    data[44:48] = b"\x0c\2ab"
    data[108:112] = b"\x0c\2cd"
    end = data.index(b"\xff", 240)
    data[end : end + 4] = b"\x34\1\3\xff"
    return bytes(data)


def _adapt(request: Any) -> None:
    if isinstance(request, BootRequest):
        for name in ("{http}/{mac}/{uuid}.efi", "{architecture}/loader", "tftp://{server}/x", "ipxe.efi"):
            adapt(BootFile(name), request, stock().is_ipxe_program)


# DHCPv6


def dhcp6_message(data: bytes) -> None:
    """parse() raises WireError only, and what it reads survives encoding."""
    try:
        message, relays = dhcp6.parse(data)
    except WireError:
        return
    assert len(relays) <= dhcp6.MOST_RELAYS
    outermost = MessageType(data[0]) if relays else MessageType.RELAY_FORWARD
    assert dhcp6.parse(dhcp6.pack(message, relays, outermost)) == (message, relays)


def dhcp6_client(data: bytes) -> None:
    """Whatever a client says of itself, it is classified, and gets a boot file or a reason why not."""
    try:
        message, relays = dhcp6.parse(data)
    except WireError:
        return
    is_firmware6(message)
    mac = client_mac(message, relays, firmware6.LINK_LOCAL)
    for boot_server, addresses in _ROLES:
        request = classify6(
            message,
            relays,
            stock().match,
            mac=mac,
            source=firmware6.LINK_LOCAL,
            boot_server=boot_server,
            assigns_addresses=addresses,
            server="fd77::1",
            own_urls=("http://[fd77::1]", ""),
        )
        _adapt(request)


def dhcp6_requests(server: bytes = b"\0\3\0\1RT\0\0\0\1") -> Iterator[bytes]:
    """Those of every client in tests/firmware6.py, by relays too.

    :param server: the DUID of the server that has given them their address, fd77::1000.
    """
    first_relay, second_relay = (
        dhcp6.Relay(0, "fd77::2", firmware6.LINK_LOCAL),
        dhcp6.Relay(1, "::", "fe80::2", ((18, b"port"),)),
    )
    address = options6.ia_address_bytes(options6.IAAddress("fd77::1000", 60, 120))
    address_option = options6.options_bytes([(Option6.IA_ADDRESS, address)])
    server_id = (Option6.SERVER_ID, server)
    for client in (firmware6.OVMF, firmware6.OVMF_HTTP, firmware6.OVMF_IP_DRIVER, firmware6.IPXE, firmware6.LINUX):
        yield dhcp6.pack(client.message())
        yield dhcp6.pack(client.message(MessageType.SOLICIT, (Option6.RAPID_COMMIT, b"")))
        yield dhcp6.pack(client.message(MessageType.INFORMATION_REQUEST, ia=None))
        for message_type in (MessageType.CONFIRM, MessageType.REBIND):
            yield dhcp6.pack(client.message(message_type, ia=address_option))
        for message_type in (MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE):
            yield dhcp6.pack(client.message(message_type, server_id, ia=address_option))
        yield dhcp6.pack(client.message(MessageType.REQUEST, server_id))
        yield firmware6.relayed(client.message(), first_relay)
        yield firmware6.relayed(client.message(), first_relay, second_relay)


# Options


_READERS4: tuple[Callable[[bytes], Any], ...] = (
    options.uint8,
    options.uint16,
    options.uint32,
    options.address,
    options.max_message_size,
    options.network_interface,
    options.architectures,
    options.ipxe,
)
_TOTAL4: tuple[Callable[[bytes], Any], ...] = (options.text, options.user_classes, options.relay_agent, pxe.boot_item)
_ROUND4: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...] = (
    (options.addresses, options.addresses_bytes),
    (options.machine_uuid, options.machine_uuid_bytes),
    (options.encapsulated, options.encapsulate),
    (lambda raw: pxe.parse(raw[:254]), pxe.pack),  # an end is added
)
_READERS6: tuple[Callable[[bytes], Any], ...] = (
    options6.domains,
    options6.link_layer_address,
    lambda raw: options6.key_of(Option6.VENDOR_OPTIONS, raw) if len(raw) > 3 else None,
)
_TOTAL6: tuple[Callable[[bytes], Any], ...] = (options6.leading_options, options6.duid_hardware, options6.duid_machine)
_ROUND6: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...] = (
    (options6.read_options, options6.options_bytes),
    (options6.identity_association, options6.identity_association_bytes),
    (options6.ia_address, options6.ia_address_bytes),
    (options6.address, options6.address_bytes),
    (options6.addresses, options6.addresses_bytes),
    (options6.uint16s, options6.uint16s_bytes),
    (options6.strings, options6.strings_bytes),
    (options6.vendor_class, lambda found: options6.vendor_class_bytes(*found)),
    (options6.vendor_options, lambda found: options6.vendor_options_bytes(*found)),
    (options6.status, lambda found: options6.status_bytes(*found)),
)


_EXACT = (
    *(options.addresses, options.machine_uuid, options6.read_options, options6.address, options6.addresses),
    *(options6.uint16s, options6.strings, options6.vendor_class, options6.vendor_options, options6.status),
)
"""Readers that leave nothing out: a value is spelled in one way only."""


def _read(
    data: bytes,
    total: tuple[Callable[[bytes], Any], ...],
    readers: tuple[Callable[[bytes], Any], ...],
    codecs: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...],
) -> None:
    for read in total:
        read(data)
    for read in readers:
        with suppress(WireError):
            read(data)
    for read, encode in codecs:
        try:
            value = read(data)
        except WireError:
            continue
        encoded = encode(value)
        assert read(encoded) == value, read
        assert read not in _EXACT or encoded == data, read


def options4(data: bytes) -> None:
    """Every reader of a DHCPv4 option raises WireError only, or nothing, and the inverse gives back what it read."""
    _read(data, _TOTAL4, _READERS4, _ROUND4)
    for code in (1, 71, 255):
        options.first_encapsulated(data, code)
    executable.machine_of(data)
    frames.parse(data)


def options6_values(data: bytes) -> None:
    """The same of DHCPv6."""
    _read(data, _TOTAL6, _READERS6, _ROUND6)


def _values4() -> Iterator[bytes]:
    for client in (*firmware.BOOT_CLIENTS, *firmware.NETWORK_GEAR):
        yield from client.options.values()
    yield firmware.BOOT_ITEM
    yield pxe.pack(
        pxe.VendorOptions(
            pxe.DiscoveryControl.USE_BOOT_FILE,
            (pxe.BootServers(0x8000, ("10.0.0.1",)),),
            (pxe.MenuItem(0x8000, "Install"), pxe.MenuItem(0, "Local disk")),
            pxe.MenuPrompt(10, "Press F8"),
            pxe.BootItem(0x8000),
            {7: b"\xe0\0\0\1"},
        )
    )


def _values6() -> Iterator[bytes]:
    for data in dhcp6_requests():
        message, relays = dhcp6.parse(data)
        for _, value in (*message.options, *(each for relay in relays for each in relay.options)):
            yield value
    yield options6.domains_bytes(["lab.example", "example"])
    yield options6.vendor_options_bytes(343, ((1, b"a"), (2, b"")))
    yield options6.status_bytes(2, "no addresses")


# Frisbee


def frisbee_packet(data: bytes) -> None:
    """parse() raises WireError only; each packet survives its own encoding, and a session takes it."""
    try:
        packet = frisbee.parse(data)
    except WireError:
        return
    assert frisbee.parse(frisbee.pack(packet)) == packet
    session = Session(2_500_123, Pace(1e6), 60.0, 0.0)
    event = _FRISBEE_INPUTS.get(type(packet))
    if event is not None:
        session.handle(event, packet, 1.0)
        assert session.blocks_wanted <= frisbee.CHUNK_BLOCKS


_FRISBEE_INPUTS = {
    frisbee.Join: Input.JOIN,
    frisbee.Request: Input.REQUEST,
    frisbee.PartialRequest: Input.REQUEST,
    frisbee.Leave: Input.LEAVE,
}


def master_message(data: bytes) -> None:
    """The parsers raise WireError only, and each message survives its own encoding."""
    for parse in (frisbeemaster.parse_request, frisbeemaster.parse_get_reply, frisbeemaster.parse_put_reply):
        try:
            message = parse(data)
        except WireError:
            continue
        assert parse(frisbeemaster.pack(message)) == message


TARGETS = (
    Target("tftp", tftp_packet, tftp_requests),
    Target("dhcp4", dhcp4_message, dhcp4_requests),
    Target("dhcp4-client", dhcp4_client, dhcp4_requests),
    Target("dhcp6", dhcp6_message, dhcp6_requests),
    Target("dhcp6-client", dhcp6_client, dhcp6_requests),
    Target("options4", options4, _values4, 512),
    Target("options6", options6_values, _values6, 512),
    Target("frisbee", frisbee_packet, lambda: frisbeecaptures.PACKETS),
    Target("frisbee-master", master_message, lambda: [*frisbeecaptures.REQUESTS, *frisbeecaptures.REPLIES]),
)
