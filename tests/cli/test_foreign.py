"""What other servers' lease files say: ISC dhcpd's, dnsmasq's, and our own export."""

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.cli.dnsmasq import is_dnsmasq, read_dnsmasq
from bootfw.cli.failure import CommandError
from bootfw.cli.foreign import exported, identity
from bootfw.cli.isc import is_isc, read_isc
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.records import lease_record, reservation_record
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS

NOW = 1_763_640_000.0  # 2025-11-20 12:00:00 UTC
MAC, KEY = "52:54:00:12:34:56", b"h\x01\x52\x54\x00\x12\x34\x56"
HARDWARE = identity(False)

ISC = r"""
# The format of this file is documented in the dhcpd.leases(5) manual page.
# This lease file was written by isc-dhcp-4.4.3-P1

# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

lease 10.0.0.10 {
  starts 4 2025/11/20 10:00:00;
  ends 4 2025/11/20 11:00:00;
  tstp 4 2025/11/20 11:00:00;
  cltt 4 2025/11/20 10:00:00;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 52:54:00:12:34:56;
}
server-duid "\000\001\000\001,\275\004\356RT\000\022";

failover peer "dhcp" state {
  my state normal at 4 2025/11/20 10:00:00;
  partner state normal at 4 2025/11/20 10:00:00;
}
lease 10.0.0.11 {
  starts 4 2025/11/20 10:00:00;
  ends never;
  binding state active;
  hardware ethernet 52:54:00:00:00:01;
  uid "\001RT\000\"\\}";
  set vendor-class-identifier = "PXEClient:Arch:00007; }";
  client-hostname "pc\"1";
  on expiry {
    set a = "b";
    if exists { log "x"; }
  }
}
lease 10.0.0.10 {
  starts 4 2025/11/20 11:45:00;
  ends 4 2025/11/20 12:45:00;
  cltt 4 2025/11/20 11:50:00;
  binding state active;
  hardware ethernet 52:54:00:12:34:56;
  client-hostname "again";
}
lease 10.0.0.12 {
  starts epoch 1763630000; # Thu Nov 20 09:13:20 2025
  ends epoch 1763630600; # Thu Nov 20 09:23:20 2025
  binding state free;
  hardware ethernet 52:54:0:0:0:2;
}
lease 10.0.0.13 {
  starts 4 2025/11/20 10:00:00;
  ends 4 2025/11/20 13:00:00;
  binding state released;
  uid 1:61:62:63;
}
lease 10.0.0.14 {
  starts 4 2025/11/20 10:00:00;
  ends 4 2025/11/20 11:00:00;
  binding state abandoned;
  client-hostname "x";
}
lease 10.0.0.15 {
  binding state free;
}
lease 10.0.0.16 {
  binding state backup;
  ends 4 2025/11/20 11:00:00;
}
lease 10.0.0.17 {
  ends 4 2025/11/20 13:00:00;
  binding state active;
}
lease 10.0.0.18 {
  ends 4 soon;
  hardware ethernet 52:54:00:00:00:09;
}
lease nowhere {
  ends never;
  hardware ethernet 52:54:00:00:00:09;
}
lease 10.0.0.19 {
  ends never;
  binding state active;
  hardware infiniband 80:00:00:48:fe:80:00:00;
  uid "\377abc";
}
host gone {
  dynamic;
  hardware ethernet 52:54:00:00:00:03;
  fixed-address 10.0.0.20;
}
host stays {
  dynamic;
  hardware ethernet 52:54:00:00:00:04;
  fixed-address 10.0.0.21;
}
host gone {
  dynamic;
  deleted;
}
host odd {
  dynamic;
  fixed-address 10.0.0.22;
}
"""


def test_isc():
    found = read_isc(ISC, NOW, HARDWARE)
    active = LeaseState.ACTIVE
    ten = NOW - 7200
    assert found.leases == {
        "10.0.0.10": Lease("10.0.0.10", KEY, MAC, active, NOW - 600, NOW + 2700, b"", "", "again", "system"),
        "10.0.0.11": Lease(
            "10.0.0.11",
            b"h\1RT\0\0\0\1",
            "52:54:00:00:00:01",
            active,
            ten,
            NEVER,
            b'\1RT\0"\\}',
            hostname='pc"1',
            kind="system",
        ),
        "10.0.0.12": Lease(
            "10.0.0.12", b"h\1RT\0\0\0\2", "52:54:00:00:00:02", active, 1763630000, 1763630600, kind="system"
        ),
        "10.0.0.13": Lease("10.0.0.13", b"i\1abc", "", LeaseState.RELEASED, ten, NOW, b"\1abc", kind="system"),
        "10.0.0.14": Lease("10.0.0.14", b"", "", LeaseState.DECLINED, NOW, NOW + 3600),
        "10.0.0.19": Lease(
            "10.0.0.19",
            b"h\x20\x80\0\0\x48\xfe\x80\0\0",
            "80:00:00:48:fe:80:00:00",
            active,
            NOW,
            NEVER,
            b"\xffabc",
            kind="system",
        ),
    }
    assert found.reservations == (Reservation("10.0.0.21", mac="52:54:00:00:00:04"),)
    assert found.left_out == (
        "10.0.0.17: nothing tells whose lease it is",
        "10.0.0.18: its lease can't be understood",
        "nowhere: its lease can't be understood",
        "host odd: needs at least one of mac, client-id, uuid, circuit-id",
    )


WRITTEN_BY_ISC = r"""# The format of this file is documented in the dhcpd.leases(5) manual page.
# This lease file was written by isc-dhcp-4.4.3-P1

# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

server-duid "\000\001\000\0012\223#jB\316\370\364\035\335";

lease 10.55.0.10 {
  starts 5 2026/11/20 15:27:41;
  ends 5 2026/11/20 16:27:41;
  cltt 5 2026/11/20 15:27:41;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet d2:d1:d0:a1:22:1e;
  uid "\001\322\321\320\241\"\036";
  set vendor-class-identifier = "udhcp 1.35.0";
  client-hostname "pc1";
}
lease 10.55.0.11 {
  starts 5 2026/11/20 15:27:42;
  ends 5 2026/11/20 16:27:42;
  cltt 5 2026/11/20 15:27:42;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 02:00:00:00:22:5c;
  uid "\377\"\\\000";
  set vendor-class-identifier = "udhcp 1.35.0";
}
"""


def test_isc_as_dhcpd_4_4_3_wrote_it_for_udhcpc():
    found = read_isc(WRITTEN_BY_ISC, NOW, HARDWARE)
    assert found.left_out == ()
    named, odd = found.leases.values()
    assert (named.address, named.hostname, named.mac) == ("10.55.0.10", "pc1", "d2:d1:d0:a1:22:1e")
    assert named.client_id == b"\1" + bytes.fromhex("d2d1d0a1221e")
    assert (odd.address, odd.client_id) == ("10.55.0.11", bytes.fromhex("ff225c00"))
    assert named.expires - named.granted == 3600


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lease 10.0.0.1 {\n ends never;\n", "the file ends in the middle of lease 10.0.0.1; is all of it there?"),
        ('lease 10.0.0.1 {\n ends "never;\n}', r"line 2 can't be read: "),
        ('ia-na "abc" {\n cltt 4 2025/11/20 10:00:00;\n}', "this is a file of DHCPv6 leases"),
    ],
)
def test_isc_that_can_not_be_read(text, reason):
    with pytest.raises(CommandError, match=f"^{re.escape(reason)}"):
        read_isc(text, NOW, HARDWARE)


@given(st.text(st.sampled_from('lease host {};"\\#\n 10.0.0.1 uid hardware ethernet ends epoch never:7')))
def test_isc_whatever_it_is(text):
    with contextlib.suppress(CommandError):
        read_isc(text, NOW, HARDWARE)


@given(st.integers(0, len(ISC)))
def test_isc_cut_off(end):
    try:
        found = read_isc(ISC[:end], NOW, HARDWARE)
    except CommandError:
        return
    assert re.sub(r"#.*", "", ISC[:end]).rstrip()[-1:] in ("", "}", ";")
    assert set(found.leases) <= set(read_isc(ISC, NOW, HARDWARE).leases)


DNSMASQ = """\
1763643600 52:54:00:12:34:56 10.0.0.10 pc 01:52:54:00:12:34:56
0 52:54:00:00:00:01 10.0.0.11 * *
1763630000 20-80:00:00:48 10.0.0.12 * ff:00:01
1763643600 * 10.0.0.13 * 01:02
1763643600 * 10.0.0.14 * *
something else
1763643600 52:54:00:00:00:05 10.0.0.999 * *
1763643600 06-52:54:00:00:00:05 10.0.0.15 wifi *
duid 00:01:00:01:2c:bd:04:ee:52:54:00:12:34:56
1763643600 1234 fd00::10 pc 00:01
"""


def test_dnsmasq():
    found = read_dnsmasq(DNSMASQ, NOW, HARDWARE)
    active, until = LeaseState.ACTIVE, NOW + 3600
    own_id = b"\1RT\0\x124V"
    assert found.leases == {
        "10.0.0.10": Lease("10.0.0.10", KEY, MAC, active, NOW, until, own_id, hostname="pc", kind="system"),
        "10.0.0.11": Lease("10.0.0.11", b"h\1RT\0\0\0\1", "52:54:00:00:00:01", active, NOW, NEVER, kind="system"),
        "10.0.0.12": Lease(
            "10.0.0.12", b"h\x20\x80\0\0\x48", "80:00:00:48", active, NOW, 1763630000, b"\xff\0\1", kind="system"
        ),
        "10.0.0.13": Lease("10.0.0.13", b"i\1\2", "", active, NOW, until, b"\1\2", kind="system"),
        "10.0.0.15": Lease(
            "10.0.0.15", b"h\6RT\0\0\0\5", "52:54:00:00:00:05", active, NOW, until, hostname="wifi", kind="system"
        ),
    }
    assert found.left_out == (
        "line 5: nothing tells whose lease it is",
        "line 6 is no lease: something else",
        "line 7 is no lease: 1763643600 52:54:00:00:00:05 10.0.0.999 * *",
    )


def test_dnsmasq_as_2_90_wrote_it_for_udhcpc():
    found = read_dnsmasq(
        "1795192021 02:00:00:00:00:77 10.55.0.14 * *\n"
        "1795192018 e6:e1:89:a9:dd:eb 10.55.0.49 pc1 01:e6:e1:89:a9:dd:eb\n",
        NOW,
        HARDWARE,
    )
    assert found.left_out == ()
    bare, named = found.leases.values()
    assert (bare.mac, bare.client_id, bare.hostname) == ("02:00:00:00:00:77", b"", "")
    assert (named.address, named.hostname, named.expires) == ("10.55.0.49", "pc1", 1795192018)


def test_clients_are_told_apart_as_the_server_does():
    found = read_dnsmasq(DNSMASQ, NOW, identity(by_client_id=True))
    assert found.leases["10.0.0.10"].client == b"i\1RT\0\x124V"
    assert found.leases["10.0.0.11"].client == b"h\1RT\0\0\0\1"


def test_which_is_which():
    assert is_isc(ISC)
    assert not is_dnsmasq(ISC)
    assert is_dnsmasq(DNSMASQ)
    assert is_dnsmasq("duid 00:01\n")
    assert not is_isc(DNSMASQ)
    for text in ("", "\n", "root:x:0:0:root:/root:/bin/sh\n", "{}", "lease\n"):
        assert not is_isc(text)
        assert not is_dnsmasq(text)


def test_our_own_export():
    document = {
        "leases": [lease_record(lease, 0.0) for lease in LEASES],
        "reservations": [
            {**reservation_record(each), "origin": "configuration" if each.hostname else "command"}
            for each in RESERVATIONS
        ],
    }
    found = exported(json.dumps(document))
    assert found.leases == {lease.address: lease for lease in LEASES}
    assert found.reservations == tuple(each for each in RESERVATIONS if not each.hostname)


@pytest.mark.parametrize(
    "text",
    ["{", "{}", '{"leases": [], "reservations": 1}', '{"leases": [{}], "reservations": []}', '{"leases": [1]}',
     '{"leases": [], "reservations": [{"origin": "command", "mac": "x"}]}'],
)  # fmt: skip
def test_an_export_that_is_none(text):
    with pytest.raises(CommandError, match="this is no export of bootfw"):
        exported(text)
