"""Cobbler's collections: which machines come of them, and what is said of each key."""

import json
from pathlib import Path
from typing import Any

import pytest
from imported import values

from bootfw.cli.main import main
from bootfw.importing.cobbler import item
from bootfw.importing.draft import Draft
from bootfw.importing.formats import import_files
from bootfw.importing.outcome import Fate, UnreadableConfiguration

MAC = "52:54:00:12:34:56"

SUBNET = "subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.200; }"


def system(interface: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A system as Cobbler 3.3 writes it, with many values that say nothing."""
    default = {"mac_address": MAC, "ip_address": "", "dns_name": "", "interface_type": "na", "static": False}
    return {
        "name": "web1",
        "profile": "debian-12",
        "uid": "9c88",
        "autoinstall": "<<inherit>>",
        "filename": "<<inherit>>",
        "netboot_enabled": True,
        "kernel_options": {},
        "power_type": "ipmilan",
        "power_address": "",
        "interfaces": {"default": {**default, **(interface or {})}},
        **more,
    }


def imported(system_item: dict[str, Any], profile: dict[str, Any] | None = None, dhcpd: str = "") -> Draft:
    items = [item("systems", "web1.json", json.dumps(system_item))]
    if profile is not None:
        items.append(item("profiles", "debian-12.json", json.dumps({"name": "debian-12", **profile})))
    files = [("dhcpd.conf", dhcpd)] if dhcpd else []
    return import_files(files, Path.read_text, items=items)


def outcome_of(draft: Draft, key: str) -> tuple[Fate, str]:
    (found,) = [each for each in draft.outcomes if each.line.text.startswith(f"{key} =")]
    return found.fate, found.reason


def test_a_system_is_a_machine() -> None:
    draft = imported(system())
    assert draft.clean
    assert values(draft)["machine"] == [{"name": "web1", "mac": MAC, "profile": "debian-12"}]
    assert outcome_of(draft, "netboot_enabled")[0] is Fate.UNNEEDED
    assert outcome_of(draft, "interfaces.default")[0] is Fate.EXPRESSED


def test_its_address_is_reserved_in_its_subnet() -> None:
    system_item = system({"ip_address": "10.77.0.7", "dns_name": "web1.example.org"})
    draft = imported(system_item, dhcpd=SUBNET)
    (host,) = values(draft)["dhcp"]["subnet"][0]["host"]
    assert host == {"mac": MAC, "address": "10.77.0.7", "hostname": "web1.example.org"}


def test_a_reservation_that_the_dhcp_server_has_is_not_repeated() -> None:
    host = f"host web1 {{ hardware ethernet {MAC}; fixed-address 10.77.0.7; }}"
    draft = imported(system({"ip_address": "10.77.0.7"}), dhcpd=f"{SUBNET}\n{host}")
    assert len(values(draft)["dhcp"]["subnet"][0]["host"]) == 1
    assert outcome_of(draft, "interfaces.default")[0] is Fate.UNNEEDED


@pytest.mark.parametrize(
    ("interface", "reason"),
    [
        ({"ip_address": "10.78.0.7"}, "no subnet has 10.78.0.7"),
        ({"ip_address": "web1"}, "web1 is not an address"),
        ({"mac_address": "random"}, "it has no hardware address"),
    ],
)
def test_an_interface_that_is_left_out_is_named(interface: dict[str, Any], reason: str) -> None:
    fate, actual_reason = outcome_of(imported(system(interface)), "interfaces.default")
    assert fate is Fate.LEFT_OUT
    assert reason in actual_reason


def test_cards_and_the_management_controller() -> None:
    system_item = system()
    system_item["interfaces"]["eth1"] = {"mac_address": "52:54:00:12:34:57"}
    system_item["interfaces"]["bmc"] = {"mac_address": "52:54:00:12:34:58", "interface_type": "bmc"}
    draft = imported(system_item)
    assert values(draft)["machine"][0]["mac"] == [MAC, "52:54:00:12:34:57"]
    assert outcome_of(draft, "interfaces.bmc")[0] is Fate.UNNEEDED


@pytest.mark.parametrize(
    ("system_item", "profile", "file"),
    [({"filename": "own.0"}, {"filename": "of-all.0"}, "own.0"), ({}, {"filename": "of-all.0"}, "of-all.0")],
)
def test_boot_file_of_a_system_or_of_its_profile(
    system_item: dict[str, Any], profile: dict[str, Any], file: str
) -> None:
    resolver = values(imported(system(**system_item), profile))["resolver"]
    assert resolver == [{"use": "by-client", "clients": [{"mac": MAC, "file": file}]}]


def test_power_by_redfish_is_taken_over_without_its_password() -> None:
    draft = imported(system(power_type="redfish", power_address="10.0.1.5", power_user="a", power_pass="secret"))
    assert values(draft)["machine"][0]["power"] == {"use": "redfish", "address": "10.0.1.5", "user": "a"}
    assert outcome_of(draft, "power_address") == (
        Fate.ASSUMED,
        "write the password into a file, and name it: password-file",
    )
    assert "secret" not in draft.text() + str(draft.outcomes)
    other = imported(system(power_type="ipmilan", power_address="10.0.1.5"))
    assert "power" not in values(other)["machine"][0]
    assert outcome_of(other, "power_address")[0] is Fate.LEFT_OUT


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("autoinstall", "sample.ks", "answers are templates of bootfw"), ("new", 1, "bootfw import does not know new")],
)
def test_value_that_bootfw_has_no_key_for_is_left_out_with_the_reason(key: str, value: Any, reason: str) -> None:
    fate, actual_reason = outcome_of(imported(system(**{key: value})), key)
    assert fate is Fate.LEFT_OUT
    assert reason in actual_reason


@pytest.mark.parametrize("text", ["{", "[]", "1"])
def test_a_file_that_is_no_item_is_an_error(text: str) -> None:
    with pytest.raises(UnreadableConfiguration, match=r"web1\.json: "):
        item("systems", "web1.json", text)


@pytest.mark.parametrize("suffix", ["", ".d"])
def test_the_command_reads_collections(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("systems", "profiles", "distros"):
        (tmp_path / f"{kind}{suffix}").mkdir()
    (tmp_path / f"systems{suffix}" / "web1.json").write_text(json.dumps(system()))
    (tmp_path / f"distros{suffix}" / "debian-12.json").write_text('{"name": "debian-12", "kernel": "/srv/linux"}')
    assert main(["import", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert f'[[machine]]\nname = "web1"\nmac = "{MAC}"\n' in out
    assert err.startswith("lines: ")
