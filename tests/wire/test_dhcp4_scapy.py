"""Scapy as a reference: it parses packed messages, and its messages are parsed."""

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP, DHCPOptions, DHCPRevOptions

from bootfw.wire.dhcp4 import BOOTREPLY, Message, pack, parse

MAC = bytes.fromhex("525400123456")

OPAQUE = sorted(code for code in range(1, 255) if isinstance(DHCPOptions.get(code, ""), str) and code != 52)
"""Codes of the options that scapy does not decode."""


def test_scapy_reads_a_proxy_offer() -> None:
    uuid = b"\0" + bytes(range(16))
    offer = Message(
        op=BOOTREPLY,
        xid=0xCAFE,
        flags=0x8000,
        siaddr="10.77.0.1",
        giaddr="10.77.0.2",
        chaddr=MAC,
        file=b"undionly.kpxe",
        options={
            82: b"\1\4eth0",
            60: b"PXEClient",
            43: bytes.fromhex("060108ff"),
            67: b"undionly.kpxe",
            97: uuid,
            54: bytes((10, 77, 0, 1)),
            53: b"\2",
        },
    )
    scapy_message = BOOTP(pack(offer))

    assert (scapy_message.op, scapy_message.xid, int(scapy_message.flags), scapy_message.hlen) == (2, 0xCAFE, 0x8000, 6)
    assert (scapy_message.ciaddr, scapy_message.yiaddr, scapy_message.siaddr, scapy_message.giaddr) == (
        "0.0.0.0",
        "0.0.0.0",
        "10.77.0.1",
        "10.77.0.2",
    )
    assert (scapy_message.chaddr, scapy_message.sname, scapy_message.file) == (
        MAC + bytes(10),
        bytes(64),
        b"undionly.kpxe".ljust(128, b"\0"),
    )
    assert scapy_message[DHCP].options == [
        ("message-type", 2),
        ("server_id", "10.77.0.1"),
        ("vendor_class_id", b"PXEClient"),
        ("vendor_specific", bytes.fromhex("060108ff")),
        ("boot-file-name", b"undionly.kpxe"),
        "pad",
        ("pxe_client_machine_identifier", uuid),
        ("relay_agent_information", b"\1\4eth0"),
        "end",
    ]


def test_a_discover_built_by_scapy_is_parsed() -> None:
    scapy_message = BOOTP(op=1, chaddr=MAC, xid=7, secs=4, flags=0x8000, giaddr="10.77.0.2") / DHCP(
        options=[
            ("message-type", "discover"),
            ("max_dhcp_size", 1472),
            ("param_req_list", [1, 3, 67]),
            ("pxe_client_architecture", b"\0\7"),
            "pad",
            ("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003000"),
            "end",
        ]
    )

    assert parse(bytes(scapy_message)) == Message(
        op=1,
        xid=7,
        secs=4,
        flags=0x8000,
        giaddr="10.77.0.2",
        chaddr=MAC,
        options={
            53: b"\1",
            57: b"\5\xc0",
            55: b"\1\3\x43",
            93: b"\0\7",
            60: b"PXEClient:Arch:00007:UNDI:003000",
        },
    )


def test_overload_and_split_options_built_by_scapy_are_parsed() -> None:
    file = bytes(DHCP(options=[("boot-file-name", b"/from-file"), (43, b"2"), "end"]))
    sname = bytes(DHCP(options=[("tftp_server_name", b"boot"), (43, b"3"), "end"]))
    scapy_message = BOOTP(op=2, chaddr=MAC, xid=7, sname=sname, file=file) / DHCP(
        options=[
            ("message-type", "offer"),
            ("boot-file-name", b"tftp"),
            ("dhcp-option-overload", 3),
            (43, b"0"),
            (43, b"1"),
            "end",
        ]
    )

    assert parse(bytes(scapy_message)) == Message(
        op=2, xid=7, chaddr=MAC, options={53: b"\2", 67: b"tftp/from-file", 43: b"0123", 66: b"boot"}
    )


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(OPAQUE), st.binary(min_size=1, max_size=255), max_size=6))
def test_scapy_reads_the_packed_options(options: dict[int, bytes]) -> None:
    scapy_message = BOOTP(pack(Message(op=BOOTREPLY, xid=1, chaddr=MAC, options={53: b"\5", **options}), 1 << 16))
    found = {}
    for entry in scapy_message[DHCP].options:
        if isinstance(entry, tuple):
            name, value = entry
            found[name if isinstance(name, int) else DHCPRevOptions[name][0]] = value

    assert found == {53: 5, **options}
