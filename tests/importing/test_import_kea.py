"""kea-dhcp4.conf and kea-dhcp6.conf: what comes out, and what is said of each line."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import boot_file6_of, boot_file_of, fates, imported, values

from bootfw.importing.formats import import_files
from bootfw.importing.outcome import Fate, UnreadableConfiguration

SUBNET = {"id": 1, "subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.100 - 10.77.0.200"}]}


def kea(settings: dict[str, Any], subnet: dict[str, Any] | None = None) -> str:
    return json.dumps({"Dhcp4": {"subnet4": [SUBNET | (subnet or {})], **settings}}, indent=1)


def test_a_subnet_with_comments_options_and_reservations() -> None:
    draft = imported(
        """// Kea
{ "Dhcp4": {
    # what holds for all
    "valid-lifetime": 4000, /* seconds */
    "renew-timer": 1000,
    "authoritative": true,
    "interfaces-config": { "interfaces": [ "eth0" ] },
    "lease-database": { "type": "memfile" },
    "option-def": [ { "name": "extra", "code": 224, "type": "uint16" } ],
    "option-data": [
        { "name": "domain-name-servers", "data": "10.77.0.1, 10.77.0.2" },
        { "name": "extra", "data": "7" },
        { "code": 225, "csv-format": false, "data": "0102" }
    ],
    "subnet4": [ {
        "subnet": "10.77.0.0/24",
        "pools": [ { "pool": "10.77.0.100 - 10.77.0.200" } ],
        "relay": { "ip-addresses": [ "10.99.0.1" ] },
        "option-data": [ { "name": "routers", "data": "10.77.0.1" } ],
        "reservations": [
            { "hw-address": "52:54:00:12:34:56", "ip-address": "10.77.0.10", "hostname": "build-7" },
        ]
    } ]
} }
"""
    )
    assert draft.clean
    found = values(draft)
    assert found["bootfw"] == {"interfaces": ["eth0"]}
    assert found["dhcp"]["authoritative"] is True
    assert found["dhcp"]["subnet"] == [
        {
            "network": "10.77.0.0/24",
            "pool": ["10.77.0.100-10.77.0.200"],
            "lease-seconds": 4000,
            "renew-seconds": 1000,
            "dns": ["10.77.0.1", "10.77.0.2"],
            "options": {"224": {"uint16": 7}, "225": {"bytes": "0x0102"}},
            "router": ["10.77.0.1"],
            "relays": ["10.99.0.1"],
            "host": [{"mac": "52:54:00:12:34:56", "address": "10.77.0.10", "hostname": "build-7"}],
        }
    ]


@pytest.mark.parametrize(
    ("classes", "subnet", "expected"),
    [
        ([], {"boot-file-name": "a", "next-server": "10.0.0.5"}, {(0, False): "10.0.0.5: a"}),
        ([], {"option-data": [{"name": "boot-file-name", "data": "a"}]}, {(0, False): "a"}),
        (
            [
                {"name": "i", "test": "option[77].hex == 'iPXE'", "boot-file-name": "http://10.0.0.5/s"},
                {"name": "b", "test": "not member('i') and option[93].hex == 0x0000", "boot-file-name": "a"},
                {"name": "u", "test": "not member('i') and not member('b')", "boot-file-name": "u"},
            ],
            {"option-data": [{"name": "tftp-server-name", "data": "10.0.0.6"}]},
            {(0, False): "10.0.0.6: a", (7, False): "10.0.0.6: u", (0, True): "http://10.0.0.5/s", (7, True): "http://10.0.0.5/s"},
        ),
        # The first class wins, and a class over the subnet.
        (
            [
                {"name": "x", "test": "substring(option[60].hex,15,5) == '00007'", "boot-file-name": "x"},
                {"name": "y", "test": "option[93].exists or option[user-class].exists", "boot-file-name": "y"},
            ],
            {"boot-file-name": "s"},
            {(7, False): "x", (0, False): "y", (None, False): "s"},
        ),
        (
            [{"name": "x", "test": "relay4[1].hex == 0x01", "boot-file-name": "x"}],
            {"boot-file-name": "s"},
            {(0, False): "s"},
        ),
    ],
)  # fmt: skip
def test_boot_files(
    classes: list[dict[str, Any]], subnet: dict[str, Any], expected: dict[tuple[int | None, bool], str | None]
) -> None:
    draft = imported(kea({"client-classes": classes}, subnet))
    assert {key: boot_file_of(draft, *key) for key in expected} == expected


def test_a_reservation_with_a_boot_file() -> None:
    host = {"hw-address": "52:54:00:12:34:56", "boot-file-name": "own"}
    draft = imported(kea({"boot-file-name": "a", "reservations": [host]}))
    assert draft.clean
    assert (boot_file_of(draft, 0), boot_file_of(draft, 0, mac="52:54:00:12:34:56")) == ("a", "own")


def test_kea_dhcp6() -> None:
    host = {"duid": "00:03:00:01:52:54:00:12:34:56", "ip-addresses": ["fd77::5"]}
    subnet = {
        "subnet": "fd77::/64",
        "pools": [{"pool": "fd77::1000 - fd77::1fff"}],
        "option-data": [{"name": "dns-servers", "data": "fd77::1"}],
        "rapid-commit": True,
        "reservations": [host],
    }
    draft = imported(json.dumps({"Dhcp6": {"subnet6": [subnet]}}, indent=1))
    assert draft.clean
    (found,) = values(draft)["dhcp6"]["subnet"]
    assert (found["pool"], found["dns"], found["rapid-commit"]) == (["fd77::1000-fd77::1fff"], ["fd77::1"], True)
    assert found["host"] == [{"duid": "00:03:00:01:52:54:00:12:34:56", "address": "fd77::5"}]


def test_shared_networks() -> None:
    shared = {"name": "x", "subnet4": [SUBNET], "option-data": [{"name": "ntp-servers", "data": "10.0.0.1"}]}
    draft = imported(json.dumps({"Dhcp4": {"shared-networks": [shared]}}, indent=1))
    assert draft.clean
    (found,) = values(draft)["dhcp"]["subnet"]
    assert (found["shared-network"], found["options"]) == ("x", {"ntp-servers": ["10.0.0.1"]})


@pytest.mark.parametrize(
    ("given", "key", "fate"),
    [
        ({"hooks-libraries": [{"library": "x"}]}, "hooks-libraries", Fate.LEFT_OUT),
        ({"hooks-libraries": []}, "hooks-libraries", Fate.UNNEEDED),
        ({"ddns-send-updates": True}, "ddns-send-updates", Fate.LEFT_OUT),
        ({"ddns-send-updates": False}, "ddns-send-updates", Fate.UNNEEDED),
        ({"loggers": [{"name": "x"}]}, "loggers", Fate.UNNEEDED),
        ({"strange": 7}, "strange", Fate.LEFT_OUT),
        ({"next-server": "boot.example.org", "boot-file-name": "a"}, "next-server", Fate.LEFT_OUT),
    ],
)
def test_fate_of_each_key(given: dict[str, Any], key: str, fate: Fate) -> None:
    found = fates(imported(kea(given)))
    assert [key_fates for text, key_fates in found.items() if text.startswith(f'"{key}"')] == [{fate}]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"Dhcp4": {"x": }}',
        '{"Dhcp4": {}} x',
        '{"Dhcp4": [' + "[" * 100 + "]}",
        '{"Dhcp4": {"a" "b"}}',
        "{'Dhcp4': 1}",
    ],
)
def test_invalid_json_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(UnreadableConfiguration, match=r"^old:1: "):
        imported(text, "kea")


def test_included_files(tmp_path: Path) -> None:
    (tmp_path / "subnets").write_text(json.dumps([SUBNET]))
    draft = imported(f'{{"Dhcp4": {{"subnet4": <?include "{tmp_path}/subnets"?> }} }}')
    assert draft.clean
    assert values(draft)["dhcp"]["subnet"][0]["network"] == "10.77.0.0/24"


NAMES = """
subnet4 subnet6 subnet pools pool option-data name data code csv-format space client-classes test boot-file-name
next-server reservations hw-address ip-address hostname shared-networks interfaces-config interfaces relay
valid-lifetime option-def authoritative hooks-libraries id ddns-send-updates strange match-client-id rapid-commit
ip-addresses duid
"""
TEXTS = [
    *("10.77.0.0/24", "10.77.0.5 - 10.77.0.9", "routers", "10.77.0.1", "52:54:00:12:34:56", "option[93].hex == 0x0007"),
    *("member('x')", "substring(option[60].hex,0,9) == 'PXEClient'", "not (", "option[", "fd77::/64", "eth0", "x", ""),
]
SCALARS = st.one_of(st.sampled_from(TEXTS), st.integers(-5, 70000), st.booleans(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(NAMES.split()), VALUES, max_size=6), st.sampled_from(["Dhcp4", "Dhcp6"]))
def test_any_values_make_a_configuration_and_a_report(given: dict[str, Any], name: str) -> None:
    text = json.dumps({name: given}, indent=1)
    draft = import_files([("old", text)], lambda path: path.read_text(), "kea")
    lines = {outcome.line.text for outcome in draft.outcomes}
    for key, value in given.items():
        if value not in ({}, [], "", None) and not isinstance(value, list | dict):
            assert any(f'"{key}"' in line for line in lines)
    tomllib.loads(draft.text())


def test_pools_of_client_classes_and_dropped_machines() -> None:
    phones = {"name": "phones", "test": "substring(option[60].hex,0,4) == 'Acme'"}
    pools = [
        {"pool": "10.77.0.100 - 10.77.0.200"},
        {"pool": "10.77.0.50-10.77.0.60", "client-class": "phones"},
        {"pool": "10.77.0.61-10.77.0.70", "client-class": "KNOWN"},
    ]
    dropped = {"hw-address": "52:54:00:12:34:56", "client-classes": ["DROP"]}
    draft = imported(kea({"client-classes": [phones]}, {"pools": pools, "reservations": [dropped]}))
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    assert dhcp["class"] == [
        {"vendor-class": "Acme", "pool": ["10.77.0.50-10.77.0.60"]},
        {"known": True, "pool": ["10.77.0.61-10.77.0.70"]},
    ]
    assert dhcp["subnet"][0]["pool"] == ["10.77.0.100-10.77.0.200"]
    assert dhcp["ignore"] == ["52:54:00:12:34:56"]


def test_a_pool_of_a_class_that_bootfw_does_not_have_is_left_out() -> None:
    draft = imported(kea({}, {"pools": [{"pool": "10.77.0.50-10.77.0.60", "client-class": "HA_server1"}]}))
    assert [outcome.reason for outcome in draft.outcomes if outcome.fate is Fate.LEFT_OUT] == [
        "bootfw has no class for HA_server1: no client gets these addresses"
    ]


def test_subnets_have_boot_files_of_their_own_also_behind_relays_with_addresses_elsewhere() -> None:
    other = {
        "id": 2,
        "subnet": "10.78.0.0/24",
        "pools": [{"pool": "10.78.0.100-10.78.0.200"}],
        "boot-file-name": "b",
        "relay": {"ip-addresses": ["10.78.0.1", "192.0.2.1"]},
    }
    subnets = [SUBNET | {"boot-file-name": "a"}, other]
    draft = imported(json.dumps({"Dhcp4": {"subnet4": subnets}}, indent=1))
    assert draft.clean
    assert [boot_file_of(draft, 0, server=server) for server in ("10.77.0.1", "10.78.0.1")] == ["a", "b"]
    (resolver,) = values(draft)["resolver"]
    assert {"relay": "192.0.2.1", "file": "b"} in resolver["clients"]


def test_boot_files_of_dhcpv6_classes_and_subnets() -> None:
    def url(name: str) -> list[dict[str, str]]:
        return [{"name": "bootfile-url", "data": f"tftp://[fd77::1]/{name}"}]

    classes = [
        {"name": "ipxe", "test": "option[15].hex == 0x000469505845", "option-data": url("boot.ipxe")},
        {"name": "arm", "test": "option[61].hex == 0x000b", "option-data": url("arm.efi")},
    ]
    subnets = [
        {"id": 1, "subnet": "fd77::/64", "pools": [{"pool": "fd77::100-fd77::1ff"}]},
        {"id": 2, "subnet": "fd78::/64", "pools": [{"pool": "fd78::100-fd78::1ff"}], "option-data": url("own.efi")},
    ]
    given = {"client-classes": classes, "subnet6": subnets, "option-data": url("x64.efi")}
    draft = imported(json.dumps({"Dhcp6": given}, indent=1))
    assert draft.clean
    clients = ((7, False), (11, False), (7, True))
    assert [boot_file6_of(draft, *client) for client in clients] == [
        f"tftp://[fd77::1]/{name}" for name in ("x64.efi", "arm.efi", "boot.ipxe")
    ]
    assert {boot_file6_of(draft, *client, server="fd78::1") for client in clients} == {"tftp://[fd77::1]/own.efi"}
    assert boot_file6_of(draft, 7, server="fd79::1") is None
