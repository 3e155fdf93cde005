"""Any message to a proxy: no reply assigns an address, only boot clients get one, and nothing raises."""

import firmware
from hypothesis import example, given
from hypothesis import strategies as st

from bootfw.dhcp.bootfile import Unsuitable, adapt
from bootfw.dhcp.classify import Ignored, classify
from bootfw.dhcp.reply import proxy_reply
from bootfw.dhcp.routing import proxy_destination
from bootfw.errors import WireError
from bootfw.personas.table import stock
from bootfw.values import BootFile
from bootfw.wire.dhcp4 import Message, pack, parse, reply_size

PERSONAS = stock()

raw = st.binary(max_size=40)
addresses = st.ip_addresses(v=4).map(str) | st.just("0.0.0.0")
class_prefixes = st.sampled_from([b"PXEClient", b"HTTPClient", b"U-Boot", b"iPXE", b"udhcp", b""])
vendor_classes = st.tuples(
    class_prefixes, st.sampled_from([b"", b":Arch:00000", b":Arch:00007:UNDI:003000", b":Arch:99999:"])
)
boot_options = st.fixed_dictionaries(
    {53: st.sampled_from([b"\1", b"\3", b"\x08"])},
    optional={
        43: raw | st.just(firmware.BOOT_ITEM),
        57: st.binary(min_size=2, max_size=2) | raw,
        60: vendor_classes.map(b"".join) | raw,
        61: st.binary(max_size=300),
        77: raw | st.just(b"iPXE"),
        82: st.binary(max_size=300),
        93: st.sampled_from([b"\0\0", b"\0\7", b"\0\x10", b"\0\x0b"]) | raw,
        97: raw | st.just(firmware.UUID_ON_THE_WIRE),
        175: raw,
    },
)
messages = st.builds(
    Message,
    op=st.just(1),
    htype=st.sampled_from([1, 6, 32]),
    hlen=st.just(6),
    xid=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([0, 0x8000, 0xFFFF]),
    ciaddr=addresses,
    giaddr=addresses,
    chaddr=st.binary(min_size=6, max_size=6),
    options=boot_options,
)
names = st.sampled_from(["pxelinux.0", "http://{server}/{mac}/x.efi", "undionly.kpxe", "{uuid}", "n" * 254]) | st.text()
servers = st.none() | st.ip_addresses(v=4).map(str)


@given(messages, names, servers, st.booleans(), st.tuples(addresses, st.integers(1, 65535)))
@example(firmware.OVMF.message(), "x", None, False, ("0.0.0.0", 68))
def test_every_reply_is_valid_and_has_a_destination(
    message: Message, name: str, server: str | None, boot_server: bool, peer: tuple[str, int]
) -> None:
    try:
        request = classify(message, PERSONAS.match, boot_server=boot_server, server="10.0.0.1")
    except WireError:
        return
    vendor_class = message.options.get(60, b"")
    if isinstance(request, Ignored):
        return
    assert vendor_class.startswith((b"PXEClient", b"HTTPClient"))
    assert message.options[53] == b"\1" or boot_server
    file = adapt(BootFile(name, server), request, PERSONAS.is_ipxe_program)
    if isinstance(file, Unsuitable):
        return
    for named_file in (file, None):
        reply = proxy_reply(message, request, named_file, PERSONAS.by_name[request.persona])
        size = reply_size(message)
        data = pack(reply, 65536)
        if len(data) > size:
            # Only the options that are echoed to the client and its relay can make it too large.
            assert len(message.options.get(61, b"") + message.options.get(82, b"")) > 100
            continue
        assert parse(data) == reply
        assert (reply.op, reply.yiaddr, reply.xid, reply.chaddr) == (2, "0.0.0.0", message.xid, message.chaddr)
        assert reply.siaddr != "0.0.0.0" or server == "0.0.0.0"
        assert not {1, 13, 50, 51, 58, 59} & reply.options.keys()
        assert reply.options[60] in (b"PXEClient", b"HTTPClient")
        assert vendor_class.startswith(reply.options[60])
    host, port, *_ = proxy_destination(message, peer, boot_server=boot_server)
    assert port
    assert host in ("255.255.255.255", message.giaddr, message.ciaddr, peer[0])


@given(st.sampled_from(firmware.ORDINARY_CLIENTS + firmware.U_BOOTS), st.booleans(), messages)
def test_other_clients_are_ignored_with_any_options(client: firmware.Client, boot_server: bool, other: Message) -> None:
    options = {**other.options, **client.options}
    if 60 not in client.options:
        options.pop(60, None)
    message = client.message(options=options, flags=other.flags, ciaddr=other.ciaddr)

    assert isinstance(classify(message, PERSONAS.match, boot_server=boot_server), Ignored)


@given(st.sampled_from(firmware.BOOT_CLIENTS), messages)
def test_a_boot_client_is_served_whatever_other_options_it_sends(client: firmware.Client, other: Message) -> None:
    required = {code: client.options[code] for code in (53, 60)}
    message = client.message(options={**other.options, **required}, flags=other.flags)

    assert not isinstance(classify(message, PERSONAS.match), Ignored)
