"""Scapy as the oracle: it reads what we pack, and we read what it builds."""

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP, DHCPOptions, DHCPRevOptions

from bootfw.wire.dhcp4 import BOOTREPLY, Message, pack, parse

MAC = bytes.fromhex("525400123456")

OPAQUE = sorted(code for code in range(1, 255) if isinstance(DHCPOptions.get(code, ""), str) and code != 52)
"""Codes whose bytes scapy leaves alone."""


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
    seen = BOOTP(pack(offer))

    assert (seen.op, seen.xid, int(seen.flags), seen.hlen) == (2, 0xCAFE, 0x8000, 6)
    assert (seen.ciaddr, seen.yiaddr, seen.siaddr, seen.giaddr) == ("0.0.0.0", "0.0.0.0", "10.77.0.1", "10.77.0.2")
    assert (seen.chaddr, seen.sname, seen.file) == (MAC + bytes(10), bytes(64), b"undionly.kpxe".ljust(128, b"\0"))
    assert seen[DHCP].options == [
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


def test_we_read_a_discover_built_by_scapy() -> None:
    built = BOOTP(op=1, chaddr=MAC, xid=7, secs=4, flags=0x8000, giaddr="10.77.0.2") / DHCP(
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

    assert parse(bytes(built)) == Message(
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


def test_we_read_overload_and_split_options_built_by_scapy() -> None:
    file = bytes(DHCP(options=[("boot-file-name", b"/from-file"), (43, b"2"), "end"]))
    sname = bytes(DHCP(options=[("tftp_server_name", b"boot"), (43, b"3"), "end"]))
    built = BOOTP(op=2, chaddr=MAC, xid=7, sname=sname, file=file) / DHCP(
        options=[
            ("message-type", "offer"),
            ("boot-file-name", b"tftp"),
            ("dhcp-option-overload", 3),
            (43, b"0"),
            (43, b"1"),
            "end",
        ]
    )

    assert parse(bytes(built)) == Message(
        op=2, xid=7, chaddr=MAC, options={53: b"\2", 67: b"tftp/from-file", 43: b"0123", 66: b"boot"}
    )


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(OPAQUE), st.binary(min_size=1, max_size=255), max_size=6))
def test_scapy_and_we_read_the_same_options(options: dict[int, bytes]) -> None:
    seen = BOOTP(pack(Message(op=BOOTREPLY, xid=1, chaddr=MAC, options={53: b"\5", **options}), 1 << 16))
    found = {}
    for entry in seen[DHCP].options:
        if isinstance(entry, tuple):
            name, value = entry
            found[name if isinstance(name, int) else DHCPRevOptions[name][0]] = value

    assert found == {53: 5, **options}
