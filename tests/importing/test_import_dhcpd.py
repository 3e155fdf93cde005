"""dhcpd.conf: what comes out, and what is said of each line."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import boot_file_of, fates, imported, values

from bootfw.importing.outcome import Fate

SUBNET = "subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.100 10.77.0.200; {} }}\n"
ARCH = "option arch code 93 = unsigned integer 16;\n"


def subnet(statements: str = "") -> str:
    return SUBNET.format(statements)


def test_a_subnet_with_options_and_hosts() -> None:
    draft = imported(
        """
authoritative;
default-lease-time 600;
max-lease-time 7200;
option domain-name "example.org";
option domain-name-servers 10.77.0.1, 10.77.0.2;
option custom code 224 = unsigned integer 16;
option wide code 225 = array of ip-address;
use-host-decl-names on;
subnet 10.77.0.0 netmask 255.255.255.0 {
    option routers 10.77.0.1;
    option ntp-servers 10.77.0.3;
    option custom 7;
    option wide 10.0.0.1, 10.0.0.2;
    option subnet-mask 255.255.255.0;
    pool {
        range 10.77.0.100 10.77.0.120;
        range 10.77.0.150;
    }
    host build-7 { hardware ethernet 52:54:0:12:34:56; fixed-address 10.77.0.10; option host-name "seven"; }
}
group {
    host b { hardware ethernet 52:54:00:12:34:57; fixed-address 10.77.0.11; }
}
"""
    )
    assert draft.clean
    assert values(draft)["dhcp"] == {
        "authoritative": True,
        "mode": "server",
        "subnet": [
            {
                "network": "10.77.0.0/24",
                "pool": ["10.77.0.100-10.77.0.120", "10.77.0.150"],
                "lease-seconds": 600,
                "domain": "example.org",
                "dns": ["10.77.0.1", "10.77.0.2"],
                "router": ["10.77.0.1"],
                "options": {
                    "ntp-servers": ["10.77.0.3"],
                    "224": {"uint16": 7},
                    "225": {"addresses": ["10.0.0.1", "10.0.0.2"]},
                },
                "host": [
                    {"mac": "52:54:00:12:34:56", "hostname": "seven", "address": "10.77.0.10"},
                    {"mac": "52:54:00:12:34:57", "hostname": "b", "address": "10.77.0.11"},
                ],
            }
        ],
    }


PXE = 'match if substring(option vendor-class-identifier, 0, 9) = "PXEClient";'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (subnet('filename "a"; next-server 10.0.0.5;'), {(0, False): "10.0.0.5: a", (None, False): "10.0.0.5: a"}),
        (subnet('if option arch = 00:07 { filename "b"; } else { filename "a"; }'), {(7, False): "b", (0, False): "a"}),
        (subnet('if option arch = 6 or option arch = 11 { filename "b"; }'), {(6, False): "b", (11, False): "b"}),
        (subnet('if option arch = 7 { filename "b"; }'), {(7, False): "b", (0, False): None}),
        (
            subnet('if option arch = 00:07 or option arch = 00:09 { filename "b"; } elsif option arch = 00:0b'
                   ' { filename "c"; } else { filename "a"; }'),
            {(7, False): "b", (9, False): "b", (11, False): "c", (0, False): "a", (None, False): "a"},
        ),
        (
            subnet('if option arch = 00:06 { filename "x"; } else if option arch = 00:07 { filename "b"; }'
                   ' else if not (option arch = 00:00) { filename "c"; }'),
            {(6, False): "x", (7, False): "b", (11, False): "c", (0, False): None},
        ),
        (
            f'class "p" {{ {PXE} if exists user-class and option user-class = "iPXE" {{ filename "s"; }} else'
            ' { filename "a"; } }' + subnet('filename "plain";'),
            {(0, False): "a", (7, True): "s", (None, False): "plain"},
        ),
        # The statements of the subnet come first, those inside it win; a class wins over both, a host over the class.
        (
            'filename "g";' + subnet('filename "s"; pool { filename "p"; }') + f'class "c" {{ {PXE} filename "c"; }}',
            {(0, False): "c", (None, False): "p"},
        ),
        (
            subnet('if suffix(option vendor-class-identifier, 3) = "016" and (option arch = 00:00) { filename "a"; }'),
            {(0, False): "a", (7, False): None},
        ),
        (subnet('option bootfile-name "a"; option tftp-server-name "10.0.0.5";'), {(0, False): "10.0.0.5: a"}),
        (subnet('if exists ipxe.x { filename "b"; } else { filename "a"; }'), {(0, False): "a"}),
    ],
)  # fmt: skip
def test_boot_files(text: str, expected: dict[tuple[int | None, bool], str | None]) -> None:
    draft = imported(ARCH + text)
    assert {key: boot_file_of(draft, *key) for key in expected} == expected


def test_hosts_groups_and_subclasses_have_boot_files_of_their_own() -> None:
    draft = imported(
        subnet('filename "a";')
        + """
group { filename "g"; next-server 10.0.0.5; host h { hardware ethernet 52:54:00:12:34:56; } }
host i { hardware ethernet 52:54:00:12:34:57; filename "i"; }
class "c" { match hardware; filename "c"; }
subclass "c" 1:52:54:00:12:34:58;
"""
    )
    assert draft.clean
    files = [boot_file_of(draft, 0, mac=f"52:54:00:12:34:5{last}") for last in "6789"]
    assert files == ["10.0.0.5: g", "i", "c", "a"]


def test_shared_networks() -> None:
    draft = imported(
        """shared-network x {
subnet 10.1.0.0 netmask 255.255.255.0 { option routers 10.1.0.1; }
subnet 10.2.0.0 netmask 255.255.255.0 { option routers 10.2.0.1; }
pool { deny unknown-clients; range 10.1.0.10 10.1.0.20; }
pool { range 10.2.0.10 10.2.0.20; }
}
"""
    )
    assert draft.clean
    found = [
        (each["shared-network"], each["pool"], each.get("known-clients-only"))
        for each in values(draft)["dhcp"]["subnet"]
    ]
    assert found == [("x", ["10.1.0.10-10.1.0.20"], True), ("x", ["10.2.0.10-10.2.0.20"], None)]


OTHER = "subnet 10.2.0.0 netmask 255.255.255.0 {\n range 10.2.0.10 10.2.0.20; %s }\n"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ('filename "b";', ["a", "a", "a", "b", "b", "b"]),
        ("", ["a", "a", "a", None, None, None]),
        ('if option arch = 00:07 { filename "b7"; } else { filename "b"; }', ["a", "a", "a", "b", "b7", "b7"]),
        ('if option arch = 00:07 { filename "b7"; }', ["a", "a", "a", None, "b7", "b7"]),
        (
            'if exists user-class and option user-class = "iPXE" { filename "s"; } else { filename "b"; }',
            ["a", "a", "a", "b", "b", "s"],
        ),
        ('filename "a";', ["a", "a", "a", "a", "a", "a"]),
    ],
)
def test_subnets_have_boot_files_of_their_own(statements: str, expected: list[str | None]) -> None:
    declared = "option arch code 93 = unsigned integer 16;\n"
    draft = imported(declared + subnet('filename "a";') + OTHER % statements)
    assert draft.clean
    clients = ((0, False), (7, False), (7, True))
    found = [boot_file_of(draft, *client, server=server) for server in ("10.77.0.1", "10.2.0.1") for client in clients]
    assert found == expected


def test_a_host_with_a_boot_file_of_its_own_keeps_it_in_every_subnet() -> None:
    host = 'host x { hardware ethernet 52:54:00:12:34:56; filename "x"; }\n'
    draft = imported(subnet('filename "a";') + OTHER % 'filename "b";' + host)
    assert boot_file_of(draft, 0, mac="52:54:00:12:34:56", server="10.2.0.1") == "x"
    assert boot_file_of(draft, 0, server="10.2.0.1") == "b"


POOLS = """class "phones" { match if substring(option vendor-class-identifier, 0, 4) = "Acme"; }
class "lab" { match hardware; }
subclass "lab" 1:52:54:00:12:34:56;
subnet 10.77.0.0 netmask 255.255.255.0 {
 pool { %s range 10.77.0.50 10.77.0.60; }
 range 10.77.0.100 10.77.0.200;
}
"""


@pytest.mark.parametrize(
    ("permits", "conditions"),
    [
        ('allow members of "phones";', {"vendor-class": "Acme"}),
        ('allow members of "lab";', {"mac": ["52:54:00:12:34:56"]}),
        ("allow known-clients;", {"known": True}),
        ("deny unknown-clients;", {"known": True}),
        ("deny known-clients;", {"known": False}),
        ("allow unknown-clients;", {"known": False}),
        ('allow members of "phones"; deny unknown-clients;', {"vendor-class": "Acme", "known": True}),
    ],
)
def test_pools_for_some_clients_become_pools_of_classes(permits: str, conditions: dict[str, Any]) -> None:
    draft = imported(POOLS % permits)
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    assert dhcp["class"] == [{**conditions, "pool": ["10.77.0.50-10.77.0.60"]}]
    assert dhcp["subnet"][0]["pool"] == ["10.77.0.100-10.77.0.200"]
    assert "known-clients-only" not in dhcp["subnet"][0]


@pytest.mark.parametrize(
    "permit", ['deny members of "phones";', 'allow members of "nobody";', "allow authenticated clients;"]
)
def test_pools_for_clients_that_no_class_describes_are_left_out(permit: str) -> None:
    draft = imported(POOLS % permit)
    assert [outcome.reason for outcome in draft.outcomes if outcome.fate is Fate.LEFT_OUT] == [
        f"bootfw has no class for it ({permit[:-1].partition(' ')[2]}): the addresses of this pool are for all clients"
    ]


def test_hosts_that_may_not_boot_and_hosts_with_a_lease_time() -> None:
    draft = imported(
        subnet()
        + "host x { hardware ethernet 52:54:00:12:34:56; deny booting; }\n"
        + "host y { hardware ethernet 52:54:00:12:34:57; fixed-address 10.77.0.7; default-lease-time 86400; }\n"
    )
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    assert dhcp["ignore"] == ["52:54:00:12:34:56"]
    assert {"mac": "52:54:00:12:34:57", "address": "10.77.0.7", "lease-seconds": 86400} in dhcp["subnet"][0]["host"]


def test_a_subnet_that_is_declared_twice_is_one() -> None:
    first = "subnet 10.77.0.0 netmask 255.255.255.0 {\n range 10.77.0.10 10.77.0.20;\n}\n"
    draft = imported(first + first.replace(".10 ", ".30 ").replace(".20;", '.40; filename "a";'))
    assert values(draft)["dhcp"]["subnet"][0]["pool"] == ["10.77.0.10-10.77.0.20", "10.77.0.30-10.77.0.40"]
    assert [outcome.line.number for outcome in draft.outcomes if outcome.fate is Fate.ASSUMED] == [4]
    assert boot_file_of(draft, 0) == "a"


def test_an_empty_file_name_is_none() -> None:
    draft = imported(subnet('filename "";'))
    assert boot_file_of(draft, 0) is None
    assert draft.clean


def test_a_class_with_options() -> None:
    draft = imported(
        subnet()
        + 'class "phones" {\n match if substring(option vendor-class-identifier, 0, 4) = "Acme";\n'
        + " option ntp-servers 10.0.0.1;\n}\n"
    )
    assert draft.clean
    assert values(draft)["dhcp"]["class"] == [{"vendor-class": "Acme", "options": {"ntp-servers": ["10.0.0.1"]}}]


def test_dhcpd6() -> None:
    draft = imported(
        """subnet6 fd77::/64 {
    range6 fd77::1000 fd77::1fff;
    option dhcp6.name-servers fd77::1;
    option dhcp6.domain-search "example.org";
    host a { host-identifier option dhcp6.client-id 00:01:00:01:aa:bb:cc:dd:52:54:00:12:34:56; fixed-address6 fd77::5; }
}
"""
    )
    assert draft.clean
    (found,) = values(draft)["dhcp6"]["subnet"]
    assert (found["pool"], found["dns"], found["domain"]) == (["fd77::1000-fd77::1fff"], ["fd77::1"], ["example.org"])
    assert found["host"] == [{"duid": "00:01:00:01:aa:bb:cc:dd:52:54:00:12:34:56", "address": "fd77::5"}]


@pytest.mark.parametrize(
    ("line", "fate", "reason"),
    [
        ("option nonsense 7;", Fate.LEFT_OUT, "give its number"),
        ("option ntp-servers ntp.example.org;", Fate.LEFT_OUT, "IPv4 address"),
        ("ddns-update-style interim;", Fate.LEFT_OUT, "no DNS"),
        ("ddns-update-style none;", Fate.UNNEEDED, "no DNS"),
        ("on commit { execute(x); }", Fate.LEFT_OUT, "runs no programs"),
        ("next-server boot.example.org;", Fate.LEFT_OUT, "write that of boot.example.org"),
        ("strange thing;", Fate.LEFT_OUT, "does not know strange"),
        ("allow members of \"c\";", Fate.LEFT_OUT, "only pools"),
        ("include \"/nonexistent\";", Fate.LEFT_OUT, "can't be read"),
        ("host x { fixed-address 10.77.0.5; }", Fate.LEFT_OUT, "no hardware address"),
        ("host x { hardware ethernet 52:54:00:12:34:56; fixed-address 10.9.0.5; }", Fate.LEFT_OUT, "in no subnet"),
        ("subnet 10.9.0.0 netmask 255.255.255.0 { }", Fate.UNNEEDED, "no addresses"),
        ("log-facility local7;", Fate.UNNEEDED, "bootfw logs"),
        ("}", Fate.LEFT_OUT, "no counterpart"),
        ("option host-name \"x", Fate.LEFT_OUT, "does not end"),
        ('if binary-to-ascii(16, 8, "", hardware) = "x" { filename "b"; }', Fate.LEFT_OUT, "no such condition"),
    ],
)  # fmt: skip
def test_fate_of_each_line(line: str, fate: Fate, reason: str) -> None:
    draft = imported(subnet('filename "a";') + line + "\n", "dhcpd")
    assert fate in fates(draft)[line]
    assert any(reason in outcome.reason for outcome in draft.outcomes if outcome.line.text == line)


def test_a_file_name_that_is_computed_is_left_out() -> None:
    draft = imported('class "c" {\n match if known;\n filename = concat("a", "b");\n}\n' + subnet('filename "a";'))
    assert boot_file_of(draft, 0) == "a"
    draft = imported('filename = concat("a", "b");\n' + subnet())
    assert boot_file_of(draft, 0) is None
    assert Fate.LEFT_OUT in fates(draft)['filename = concat("a", "b");']


def test_debian_defaults_name_the_interfaces() -> None:
    draft = imported('INTERFACESv4="eth0 eth1"\nINTERFACESv6=""\n')
    assert draft.clean
    assert values(draft)["bootfw"] == {"interfaces": ["eth0", "eth1"]}


def test_included_files(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("host a { hardware ethernet 52:54:00:12:34:56; fixed-address 10.77.0.9; }\n")
    draft = imported(subnet() + f'include "{tmp_path}/hosts";\n')
    assert draft.clean
    assert values(draft)["dhcp"]["subnet"][0]["host"] == [{"mac": "52:54:00:12:34:56", "address": "10.77.0.9"}]


PIECES = """
{ } ; ; ; , ( ) = if elsif else not and or exists known substring suffix option arch user-class vendor-class-identifier
"PXEClient" "iPXE" 0 9 00:07 subnet 10.77.0.0 netmask 255.255.255.0 range 10.77.0.5 10.77.0.9 host a hardware ethernet
52:54:00:12:34:56 fixed-address filename "a" next-server class "c" match subclass pool group routers host-name include
authoritative deny unknown-clients shared-network code 93 unsigned integer 16 space # " subnet6 fd77::/64 range6 fd77::5
"""


@given(st.lists(st.sampled_from([*PIECES.split(), "\n", "\n", "; }\n"]), max_size=40))
def test_every_word_is_in_a_line_with_an_outcome(words: list[str]) -> None:
    text = " ".join(words)
    draft = imported(text, "dhcpd")
    line_numbers = {outcome.line.number for outcome in draft.outcomes}
    assert line_numbers or not text.split("#")[0].replace(";", "").strip()
    assert all(outcome.reason for outcome in draft.outcomes)
    tomllib.loads(draft.text())


STATEMENTS = """
filename "a";|next-server 10.0.0.1;|range 10.77.0.5 10.77.0.9;|option routers 10.77.0.1;|option arch 7;|match hardware;
match if option arch = 00:07;|if option arch = 00:07 {|} elsif known {|} else {|} else if exists user-class {|}|}
host a {|hardware ethernet 52:54:00:12:34:56;|fixed-address 10.77.0.7;|fixed-address x;|class "c" {|group {|pool {
subnet 10.77.0.0 netmask 255.255.255.0 {|subnet 10.78.0.0 netmask x {|subclass "c" 1:52:54:00:12:34:56;|range;
deny unknown-clients;|option space x;|shared-network x {|option domain-name = "x";|use-host-decl-names on;
authoritative;|default-lease-time 5;|option domain-name-servers x;|host-identifier option dhcp6.client-id 1:2;
"""
LINES = [each for line in STATEMENTS.splitlines() for each in line.split("|") if each]


@given(st.lists(st.sampled_from(LINES), max_size=25))
def test_every_line_has_an_outcome(lines: list[str]) -> None:
    draft = imported("\n".join(lines), "dhcpd")
    line_numbers = {outcome.line.number for outcome in draft.outcomes}
    closing_braces = {number for number, line in enumerate(lines, 1) if line == "}"}
    assert set(range(1, len(lines) + 1)) <= line_numbers | closing_braces
    tomllib.loads(draft.text())
