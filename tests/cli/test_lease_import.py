"""Reads the lease files of other servers, of ISC dhcpd and dnsmasq, and the export of bootfw."""

import contextlib
import json
import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.cli.dnsmasq import is_dnsmasq, read_dnsmasq
from bootfw.cli.failure import CommandError
from bootfw.cli.isc import is_isc, read_isc
from bootfw.cli.leaseimport import exported, identity
from bootfw.dhcp.hashedallocator import ClientIA
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.records import lease_record, reservation_record
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS

NOW = 1_763_640_000.0  # 2025-11-20 12:00:00 UTC
MAC, KEY = "52:54:00:12:34:56", b"h\x01\x52\x54\x00\x12\x34\x56"
BY_HARDWARE = identity(False)

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


def test_isc_leases_and_hosts_are_read() -> None:
    found = read_isc(ISC, NOW, BY_HARDWARE)
    active = LeaseState.ACTIVE
    granted = NOW - 7200
    assert found.leases == {
        "10.0.0.10": Lease("10.0.0.10", KEY, MAC, active, NOW - 600, NOW + 2700, b"", "", "again", "system"),
        "10.0.0.11": Lease(
            "10.0.0.11",
            b"h\1RT\0\0\0\1",
            "52:54:00:00:00:01",
            active,
            granted,
            NEVER,
            b'\1RT\0"\\}',
            hostname='pc"1',
            kind="system",
        ),
        "10.0.0.12": Lease(
            "10.0.0.12", b"h\1RT\0\0\0\2", "52:54:00:00:00:02", active, 1763630000, 1763630600, kind="system"
        ),
        "10.0.0.13": Lease("10.0.0.13", b"i\1abc", "", LeaseState.RELEASED, granted, NOW, b"\1abc", kind="system"),
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
        "line 70: lease 10.0.0.17 is not imported: it has no client: no hardware address and no client identifier",
        "line 74: lease 10.0.0.18 is not imported: line 75: ends 4 soon",
        "line 78: lease nowhere is not imported: nowhere is not an IPv4 address",
        "line 102: host odd is not imported: needs at least one of mac, client-id, uuid, circuit-id",
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


def test_isc_leases_written_by_dhcpd_4_4_3_for_udhcpc_are_read() -> None:
    found = read_isc(WRITTEN_BY_ISC, NOW, BY_HARDWARE)
    assert found.left_out == ()
    named, unnamed = found.leases.values()
    assert (named.address, named.hostname, named.mac) == ("10.55.0.10", "pc1", "d2:d1:d0:a1:22:1e")
    assert named.client_id == b"\1" + bytes.fromhex("d2d1d0a1221e")
    assert (unnamed.address, unnamed.client_id) == ("10.55.0.11", bytes.fromhex("ff225c00"))
    assert named.expires - named.granted == 3600


ENTRY = """lease 10.0.0.%d {
  starts 4 2025/11/20 10:00:00;
  ends 4 2025/11/20 13:00:00;
  binding state active;
  hardware ethernet 52:54:00:00:00:%02d;
%s}
"""


def entry(number: int, more: str = "") -> str:
    """The declaration of a lease: six lines, and those of *more*."""
    return ENTRY % (number, number, more)


def read(text: str) -> tuple[list[int], list[str], list[str]]:
    """(last bytes of the addresses, host names of the reservations, messages about what is left out)."""
    found = read_isc(text, NOW, BY_HARDWARE)
    addresses = [int(address.rpartition(".")[2]) for address in found.leases]
    return addresses, [reservation.hostname for reservation in found.reservations], list(found.left_out)


def test_nul_bytes_between_declarations_are_reported() -> None:
    """A crash leaves them where a block of the file has not reached the disk."""
    lost = "as a crash leaves them; what was there is lost"
    assert read(entry(1) + "\0" * 200 + entry(2)) == ([1, 2], [], [f"line 7: 200 NUL bytes, {lost}"])
    assert read(entry(1) + "\0\n") == ([1], [], [f"line 7: 1 NUL byte, {lost}"])


def test_declaration_with_nul_bytes_is_not_imported() -> None:
    """They may replace its end and the beginning of another one, so it can't be relied on."""
    damaged = entry(2)[:60] + "\0" * 50 + entry(3)[40:]
    addresses, _, left_out = read(entry(1) + damaged + entry(4))
    assert addresses == [1, 4]
    assert left_out[0] == "line 7: lease 10.0.0.2 is not imported: there are NUL bytes in it on line 9"
    assert left_out[1].startswith("line 9: 50 NUL bytes")


def test_declaration_with_nul_bytes_in_a_string_is_not_imported() -> None:
    """They may replace the end of the declaration, whatever the statement is."""
    addresses, _, left_out = read(entry(1) + entry(2, '  set x = "a\0\0b";\n  set y = "c\0d";\n') + entry(3))
    assert addresses == [1, 3]
    assert left_out == ['line 7: lease 10.0.0.2 is not imported: line 12 can\'t be read: set x = "a\0\0b";']


def test_errors_of_replaced_declarations_are_not_reported() -> None:
    assert read(entry(1).replace("13:00:00", "soon") + entry(1)) == ([1], [], [])


def test_earlier_declaration_is_used_if_the_later_one_is_damaged() -> None:
    addresses, _, left_out = read(entry(1) + entry(1, ' uid "x;\n') + entry(2))
    assert addresses == [1, 2]
    assert left_out == ["line 7: lease 10.0.0.1 is not imported: line 12 can't be read: uid \"x;"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('  client-hostname "kids" pc";', "line 12 can't be read: {}; lease 10.0.0.2 is imported without it"),
        ('  client-hostname "a" }";', "line 12 can't be read: {}; lease 10.0.0.2 is imported without it"),
        ('  client-hostname "a" b "c";', "line 12: lease 10.0.0.2 is imported without {}"),
        ("  client-hostname;", "line 12: lease 10.0.0.2 is imported without {}"),
        ("  colour green;", "line 12: lease 10.0.0.2 is imported without {}"),
        ('  uid "a"b";', "line 7: lease 10.0.0.2 is not imported: line 12 can't be read: {}"),
        ('  uid "a" "b";', "line 7: lease 10.0.0.2 is not imported: line 12: {}"),
        ("  uid 1:gg;", "line 7: lease 10.0.0.2 is not imported: line 12: {}"),
        ('  colour "green;', "line 7: lease 10.0.0.2 is not imported: line 12 can't be read: {}"),
        (
            "  hardware ethernet 52:54:00:00:00:09;",
            "line 7: lease 10.0.0.2 is not imported: hardware is given twice, on lines 11 and 12",
        ),
        ("  cltt sometime;", "line 7: lease 10.0.0.2 is not imported: line 12: {}"),
        ("  cltt", "line 7: lease 10.0.0.2 is not imported: there is no ; after {} on line 12"),
    ],
)
def test_damaged_line_is_skipped_and_reported(line: str, message: str) -> None:
    """A damaged host name or an unknown statement is left out of the lease; other damage leaves out the lease."""
    excerpt = line.strip() if "can't" in message else line.strip().rstrip(";")
    addresses, _, left_out = read(entry(1) + entry(2, f"{line}\n") + entry(3))
    assert left_out == [message.format(excerpt)]
    assert addresses == ([1, 3] if "not imported" in message else [1, 2, 3])


@pytest.mark.parametrize(
    "statement", ["binding state strange", "binding active", "hardware ethernet", "hardware tin 1"]
)
def test_lease_with_a_damaged_statement_is_not_imported(statement: str) -> None:
    damaged = entry(2).replace("binding state active", statement)
    if statement.startswith("hardware"):
        damaged = entry(2).replace("hardware ethernet 52:54:00:00:00:02", statement)
    line = 11 if statement.startswith("hardware") else 10
    message = f"line 7: lease 10.0.0.2 is not imported: line {line}: {statement}"
    assert read(entry(1) + damaged) == ([1], [], [message])


def test_missing_brace_is_reported() -> None:
    assert read(entry(1)[:-2] + entry(2)) == (
        [2],
        [],
        ["line 1: lease 10.0.0.1 is not imported: there is no } before lease 10.0.0.2 on line 6"],
    )
    assert read(entry(1) + "}\n" + entry(2)) == ([1, 2], [], ["line 7: } is not inside a declaration"])
    assert read("ends never;\n" + entry(2)) == ([2], [], ["line 1: ends never is not inside a declaration"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lease 10.0.0.9 {\n ends never;\n",
            "line 7: the file ends in the middle of lease 10.0.0.9; is all of it there?",
        ),
        ("lease 10.0.0.9", "line 7: the file ends in the middle of lease 10.0.0.9; is all of it there?"),
        ('lease "10', "line 7 can't be read: lease \"10"),
    ],
)
def test_truncated_declaration_is_reported(text: str, message: str) -> None:
    assert read(entry(1) + text) == ([1], [], [message])


def test_declarations_that_are_not_imported_are_reported() -> None:
    """An OMAPI client adds such declarations; others are in dhcpd.conf, which an operator may import by mistake."""
    text = (
        'group "lab" {\n  dynamic;\n}\nsubclass "x" 1:2 {\n}\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n'
        "  pool {\n    range 10.0.0.5 10.0.0.9;\n  }\n}\nfailover peer x state {\n}\noption x 1;\n{\n}\nlease {\n}\n"
    )
    assert read(text + entry(1)) == (
        [1],
        [],
        [
            'line 1: group "lab" is not imported',
            'line 4: subclass "x" 1:2 is not imported',
            "line 6: subnet 10.0.0.0 netmask 255.255.255.0 is not imported",
            "line 13: option x 1 is not inside a declaration",
            "line 14: a block without a name is not imported",
            "line 16: lease is not imported",
        ],
    )


def test_crlf_and_names_in_latin_1_are_read() -> None:
    text = entry(1, '  client-hostname "k\udcfc";\n').replace("\n", "\r\n") + entry(2, '  client-hostname "kü";\n')
    found = read_isc(text, NOW, BY_HARDWARE)
    assert [lease.hostname for lease in found.leases.values()] == ["k\udcfc", "kü"]
    assert found.left_out == ()


def test_reserved_lease_is_imported_as_a_reservation() -> None:
    found = read_isc(entry(1, "  reserved;\n") + entry(2, "  reserved;\n") + entry(2), NOW, BY_HARDWARE)
    assert found.reservations == (Reservation("10.0.0.1", mac="52:54:00:00:00:01"),)
    assert len(found.leases) == 2
    abandoned = read_isc(entry(1, "  reserved;\n").replace("active", "abandoned"), NOW, BY_HARDWARE)
    assert (abandoned.leases["10.0.0.1"].state, abandoned.reservations) == (LeaseState.DECLINED, ())
    assert abandoned.left_out == ()


OPENBSD = """lease 10.0.0.1 {
\tstarts 4 2025/11/20 10:00:00 UTC;
\tends 4 2025/11/20 13:00:00 UTC;
\thardware ethernet 52:54:00:12:34:56;
\tuid 01:52:54:00:12:34:56;
\tclient-hostname "pc";
}
lease 10.0.0.2 {
\tstarts 4 2025/11/20 10:00:00 UTC;
\tends 4 2025/11/20 11:00:00 UTC;
\tabandoned;
}
"""


def test_openbsd_leases_are_read() -> None:
    found = read_isc(OPENBSD, NOW, BY_HARDWARE)
    assert found.left_out == ()
    assert found.leases == {
        "10.0.0.1": Lease(
            "10.0.0.1", KEY, MAC, LeaseState.ACTIVE, NOW - 7200, NOW + 3600, b"\1RT\0\x124V", "", "pc", "system"
        ),
        "10.0.0.2": Lease("10.0.0.2", b"", "", LeaseState.DECLINED, NOW, NOW + 3600),
    }


XCAT = """host node1 {
  dynamic;
  hardware ethernet 52:54:00:aa:00:01;
  fixed-address 10.0.0.59;
        supersede server.ddns-hostname = "node1";
        supersede host-name = "node1";
        if option user-class-identifier = "xNBA" {
          supersede server.filename = "http://10.0.0.1/x";
        } else {
          supersede server.filename = "xcat/xnba.kpxe";
        }
        supersede server.next-server = 0a:00:00:01;
}
host node2 {
  dynamic;
  hardware ethernet 52:54:00:aa:00:02;
  fixed-address 10.0.0.60, 10.0.0.61;
  option host-name "node2";
}
host node3 {
  hardware ethernet 52:54:00:aa:00:03;
  fixed-address node3.lab.example;
}
host node4 {
  hardware ethernet 52:54:00:aa:00:04;
  option host-name "node4";
  filename "node4.efi";
}
"""


def test_hosts_added_by_xcat_are_read() -> None:
    found = read_isc(XCAT, NOW, BY_HARDWARE)
    assert found.reservations == (
        Reservation("10.0.0.59", mac="52:54:00:aa:00:01", hostname="node1"),
        Reservation(mac="52:54:00:aa:00:04", hostname="node4"),
    )
    too_many = "it has 2 addresses, 10.0.0.60 and 10.0.0.61, and a reservation has one"
    by_client = "a boot file for one machine belongs into the configuration, to the resolver by-client"
    assert found.left_out == (
        'line 5: host node1 is imported without supersede server.ddns-hostname = "node1"',
        'line 7: host node1 is imported without if option user-class-identifier = "xNBA"',
        "line 9: host node1 is imported without else",
        "line 12: host node1 is imported without supersede server.next-server = 0a:00:00:01",
        f"line 14: host node2 is not imported: {too_many}: add those that you want by bootfw leases reserve",
        'line 20: host node3 is not imported: must be an IPv4 address, such as "10.77.0.10", not "node3.lab.example"',
        f'line 27: host node4 is imported without filename "node4.efi": {by_client}',
    )


ISC6 = r"""authoring-byte-order little-endian;
server-duid "\000\001";
ia-na "\004\003\002\001\000\001\000\001abcdRT\000\0224V" {
  cltt 4 2025/11/20 11:50:00;
  iaaddr fd77:0::5 {
    binding state active;
    preferred-life 375;
    max-life 600;
    ends 4 2025/11/20 13:00:00;
  }
  iaaddr fd77::6 {
    binding state abandoned;
    ends 4 2025/11/20 11:00:00;
  }
}
ia-pd "\004\003\002\001\000\001" {
  iaprefix fd78::/56 { binding state active; }
}
ia-ta "x" {
}
ia-na "\001\000\000\000" {
}
"""


@pytest.mark.parametrize(("byte_order", "iaid"), [("little", 0x01020304), ("big", 0x04030201)])
def test_isc_dhcpv6_leases_are_read(byte_order: str, iaid: int) -> None:
    found = read_isc(ISC6.replace("little", byte_order), NOW, BY_HARDWARE)
    duid = b"\0\1\0\1abcd" + bytes.fromhex(MAC.replace(":", ""))
    key = ClientIA(duid, iaid, MAC, "system").key
    assert found.leases == {
        "fd77::5": Lease("fd77::5", key, MAC, LeaseState.ACTIVE, NOW - 600, NOW + 3600, duid, kind="system"),
        "fd77::6": Lease("fd77::6", b"", "", LeaseState.DECLINED, NOW, NOW + 3600),
    }
    assert found.left_out == (
        "line 16: ia-pd is not imported: bootfw gives no prefixes",
        "line 19: ia-ta is not imported: bootfw gives no temporary addresses",
        'line 21: ia-na "\\001\\000\\000\\000" is not imported: its name holds no DUID',
    )


@given(st.text(st.sampled_from('lease host {};"\\#\n 10.0.0.1 uid hardware ethernet ends epoch never:7')))
def test_isc_parser_raises_command_error_only(text: str) -> None:
    with contextlib.suppress(CommandError):
        read_isc(text, NOW, BY_HARDWARE)


@given(st.integers(0, len(ISC)))
def test_truncated_isc_file_is_reported(end: int) -> None:
    found = read_isc(ISC[:end], NOW, BY_HARDWARE)
    if re.sub(r"#.*", "", ISC[:end]).rstrip()[-1:] not in ("", "}", ";"):
        assert found.left_out
    assert set(found.leases) <= set(read_isc(ISC, NOW, BY_HARDWARE).leases)


@given(st.integers(0, len(ISC)), st.integers(1, 300))
def test_nul_bytes_anywhere_in_an_isc_file_are_reported(start: int, size: int) -> None:
    """No lease is read that was not in the file, and the NUL bytes are reported."""
    found = read_isc(ISC[:start] + "\0" * size + ISC[start + size :], NOW, BY_HARDWARE)
    assert found.left_out
    undamaged = [read_isc(part, NOW, BY_HARDWARE).leases for part in re.findall(r"^lease .*?^}", ISC, re.M | re.S)]
    for address, lease in found.leases.items():
        expected = [part[address] for part in undamaged if address in part]
        assert lease in [*expected, *(evolve(each, hostname="") for each in expected)]


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


def test_dnsmasq_leases_are_read() -> None:
    found = read_dnsmasq(DNSMASQ, NOW, BY_HARDWARE)
    active, expires = LeaseState.ACTIVE, NOW + 3600
    client_id = b"\1RT\0\x124V"
    assert found.leases == {
        "10.0.0.10": Lease("10.0.0.10", KEY, MAC, active, NOW, expires, client_id, hostname="pc", kind="system"),
        "10.0.0.11": Lease("10.0.0.11", b"h\1RT\0\0\0\1", "52:54:00:00:00:01", active, NOW, NEVER, kind="system"),
        "10.0.0.12": Lease(
            "10.0.0.12", b"h\x20\x80\0\0\x48", "80:00:00:48", active, NOW, 1763630000, b"\xff\0\1", kind="system"
        ),
        "10.0.0.13": Lease("10.0.0.13", b"i\1\2", "", active, NOW, expires, b"\1\2", kind="system"),
        "10.0.0.15": Lease(
            "10.0.0.15", b"h\6RT\0\0\0\5", "52:54:00:00:00:05", active, NOW, expires, hostname="wifi", kind="system"
        ),
        "fd00::10": Lease("fd00::10", b"6\0\0\4\xd2\0\1", "", active, NOW, expires, b"\0\1", "", "pc", "system"),
    }
    assert found.left_out == (
        "line 5: 10.0.0.14 has no client: no hardware address and no client identifier",
        "line 6 is not a lease: something else",
        "line 7 is not a lease: 1763643600 52:54:00:00:00:05 10.0.0.999 * *",
    )


def test_leases_written_by_dnsmasq_2_90_for_udhcpc_are_read() -> None:
    found = read_dnsmasq(
        "1795192021 02:00:00:00:00:77 10.55.0.14 * *\n"
        "1795192018 e6:e1:89:a9:dd:eb 10.55.0.49 pc1 01:e6:e1:89:a9:dd:eb\n",
        NOW,
        BY_HARDWARE,
    )
    assert found.left_out == ()
    unnamed, named = found.leases.values()
    assert (unnamed.mac, unnamed.client_id, unnamed.hostname) == ("02:00:00:00:00:77", b"", "")
    assert (named.address, named.hostname, named.expires) == ("10.55.0.49", "pc1", 1795192018)


DUID = "00:01:00:01:2c:bd:04:ee:52:54:00:12:34:56"


def test_dnsmasq_dhcpv6_leases_are_read() -> None:
    found = read_dnsmasq(
        f"duid 00:01:00:01:2c:bd:04:ee:52:54:00:00:00:01\r\n"
        f"1763643600 4294967295 fd00:0::10 pc {DUID}\r\n"
        f"1763643600 T5 fd00::11 * {DUID}\n"
        f"1763643600 4294967296 fd00::12 * {DUID}\n"
        f"1763643600 6 fd00::13 * *\n"
        f"1763643600 7 fd00::x * {DUID}\n"
        f"0 8 fd00::14 * {DUID}\n"
        "agent-info 10.0.0.10 01:02\n"
        "vendorclass fd00::10 01:02\n",
        NOW,
        BY_HARDWARE,
    )
    duid = bytes.fromhex(DUID.replace(":", ""))
    key, never_key = ClientIA(duid, 0xFFFFFFFF, MAC, "system").key, ClientIA(duid, 8, MAC, "system").key
    active = LeaseState.ACTIVE
    assert found.leases == {
        "fd00::10": Lease("fd00::10", key, MAC, active, NOW, NOW + 3600, duid, hostname="pc", kind="system"),
        "fd00::14": Lease("fd00::14", never_key, MAC, active, NOW, NEVER, duid, kind="system"),
    }
    assert found.left_out == (
        "line 3: fd00::11 is a temporary address (IA_TA), and bootfw gives none",
        f"line 4 is not a lease: 1763643600 4294967296 fd00::12 * {DUID}"[:83],
        "line 5: fd00::13 has no client: no DUID",
        f"line 6 is not a lease: 1763643600 7 fd00::x * {DUID}"[:83],
    )


def test_duid_without_an_ethernet_address_has_no_mac() -> None:
    for duid in ("00:03:00:20:52:54:00:12:34:56", "00:03:00:01:52:54:00:12:34", "00:02:00:00:ab:11:52:54"):
        found = read_dnsmasq(f"1763643600 1 fd00::10 * {duid}\n", NOW, BY_HARDWARE)
        assert (found.leases["fd00::10"].mac, found.left_out) == ("", ())


def test_lease_times_of_dnsmasq_without_a_clock_are_read() -> None:
    found = read_dnsmasq("43200 52:54:00:12:34:56 10.0.0.10 * *\n", NOW, BY_HARDWARE)
    assert found.leases["10.0.0.10"].expires == NOW + 43200


def test_damaged_dnsmasq_lines_are_reported() -> None:
    line = "1763643600 52:54:00:12:34:56 10.0.0.{} * *\n"
    text = "\0\0" + line.format(1) + line.format(2) + line.format(3) + line.format(2)
    assert is_dnsmasq(text)
    found = read_dnsmasq(text, NOW, BY_HARDWARE)
    assert list(found.leases) == ["10.0.0.2", "10.0.0.3"]
    assert found.left_out == (
        "line 1 is not a lease: \0\x001763643600 52:54:00:12:34:56 10.0.0.1 * *",
        "line 2: 10.0.0.2 is repeated on line 4, which is used instead",
    )


def test_clients_are_identified_as_by_the_server() -> None:
    found = read_dnsmasq(DNSMASQ, NOW, identity(by_client_id=True))
    assert found.leases["10.0.0.10"].client == b"i\1RT\0\x124V"
    assert found.leases["10.0.0.11"].client == b"h\1RT\0\0\0\1"


def test_file_format_is_detected() -> None:
    assert is_isc(ISC)
    assert not is_dnsmasq(ISC)
    assert is_dnsmasq(DNSMASQ)
    assert is_dnsmasq("duid 00:01\n")
    assert not is_isc(DNSMASQ)
    for text in ("", "\n", "root:x:0:0:root:/root:/bin/sh\n", "{}", "lease\n"):
        assert not is_isc(text)
        assert not is_dnsmasq(text)


def test_export_of_bootfw_is_read() -> None:
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
    assert found.configured == tuple(each for each in RESERVATIONS if each.hostname)


@pytest.mark.parametrize(
    "text",
    ["{", "{}", '{"leases": [], "reservations": 1}', '{"leases": [{}], "reservations": []}', '{"leases": [1]}',
     '{"leases": [], "reservations": [{"origin": "command", "mac": "x"}]}',
     '{"leases": [], "reservations": [{"origin": "elsewhere", "mac": "52:54:00:00:00:01"}]}'],
)  # fmt: skip
def test_invalid_export_is_an_error(text: str) -> None:
    with pytest.raises(CommandError, match="this is not an export of bootfw"):
        exported(text)
