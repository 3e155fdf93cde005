"""``bootfw import --diff`` without a network: two configurations as the old server and the new one."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from bootfw.cli.failure import CommandError
from bootfw.cli.importdiff import MOST_MACHINES, Difference, DryServer, Question, compare, questions
from bootfw.cli.main import main
from bootfw.cli.netboot import PROFILES
from bootfw.config.configuration import Configuration, load_config

SERVER, MAC = "10.77.0.1", "52:54:00:12:34:56"

CONFIG = """
backend = []
[tftp]
listen = []
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.199"]
router = "10.77.0.1"
options = {ntp-servers = ["10.77.0.5"]}
[[dhcp.subnet.host]]
mac = "52:54:00:12:34:56"
address = "10.77.0.7"
[[resolver]]
use = "static"
file = "pxelinux.0"
"""
PROXY = """
backend = []
[tftp]
listen = []
[[resolver]]
use = "static"
file = "pxelinux.0"
"""


def configuration(directory: Path, *changes: tuple[str, str], text: str = CONFIG) -> Configuration:
    """The configuration *text* with (old, new) replaced in it."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "bootfw.toml"
    path.write_text(text)
    return load_config(path, {})


def differences(old: Configuration, new: Configuration, mac: str = "52:54:00:00:00:01") -> list[Difference]:
    """How *new* answers a BIOS with *mac* differently from *old*."""
    old_server = DryServer(old, SERVER, "", Clock())
    clients = [Question(PROFILES["bios"], mac), Question(PROFILES["bios"], "02:00:00:00:00:01")]
    comparison, _ = compare(new, SERVER, old_server, old_server, clients, Clock())
    return list(comparison.differences)


def test_equal_configurations_do_not_differ_in_the_address_of_the_pool(tmp_path: Path) -> None:
    new = configuration(tmp_path, ("10.77.0.100-10.77.0.199", "10.77.0.50-10.77.0.60"))
    assert differences(configuration(tmp_path), new) == []


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("pxelinux.0", "other.0", Difference("boot file", "pxelinux.0", "other.0")),
        ('"pxelinux.0"', '"pxelinux.0"\nserver = "10.0.0.9"', Difference("boot file's server", SERVER, "10.0.0.9")),
        ('router = "10.77.0.1"', "", Difference("router (3)", "10.77.0.1", "")),
        ("10.77.0.5", "10.77.0.6", Difference("ntp-servers (42)", "10.77.0.5", "10.77.0.6")),
    ],
)
def test_each_difference_is_reported(tmp_path: Path, old: str, new: str, difference: Difference) -> None:
    first, second = configuration(tmp_path), configuration(tmp_path, (old, new))
    assert difference in differences(first, second)
    assert Difference(difference.part, difference.new, difference.old) in differences(second, first)


def test_reserved_addresses_are_compared(tmp_path: Path) -> None:
    new = configuration(tmp_path, ("10.77.0.7", "10.77.0.8"))
    assert differences(configuration(tmp_path), new, MAC) == [Difference("address", "10.77.0.7", "10.77.0.8")]


def test_ignored_client_gets_nothing(tmp_path: Path) -> None:
    new = configuration(tmp_path, ('mode = "server"', f'mode = "server"\nignore = ["{MAC}"]'))
    found = differences(configuration(tmp_path), new, MAC)
    assert Difference("boot file", "pxelinux.0", "") in found
    assert all(each.new == "" for each in found)


def test_proxy_is_queried_at_its_boot_server_port_too(tmp_path: Path) -> None:
    old = configuration(tmp_path, text=PROXY)
    assert differences(old, old) == []
    new = configuration(tmp_path, ("pxelinux.0", "other.0"), text=PROXY)
    assert differences(old, new) == [Difference("boot file", "pxelinux.0", "other.0")]


def test_kinds_of_clients_and_machines_of_the_configuration_are_compared(tmp_path: Path) -> None:
    clients, left_out = questions(configuration(tmp_path))
    assert {each.profile.name for each in clients} == {*PROFILES, "ipxe-bios", "uefi-arm64", "plain"}
    assert [each.profile.name for each in clients if each.mac == MAC] == ["bios", "uefi", "ipxe"]
    assert left_out == 0


def test_more_than_the_most_machines_are_compared_only_if_named(tmp_path: Path) -> None:
    macs = [f"02:00:00:00:00:{number:02x}" for number in range(MOST_MACHINES + 3)]
    table = ", ".join(f'{{mac = "{mac}", file = "x"}}' for mac in macs)
    many = configuration(tmp_path, ('use = "static"\nfile = "pxelinux.0"', f'use = "by-client"\nclients = [{table}]'))
    assert questions(many)[1] == 3 + 1
    clients, left_out = questions(many, macs)
    assert left_out == 0
    assert {each.mac for each in clients} == {*macs, "52:54:00:00:00:01"}


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    working = configuration(tmp_path)
    off = configuration(tmp_path, text='backend = []\nresolver = []\n[dhcp]\nmode = "off"\n')
    with pytest.raises(CommandError, match="answers no DHCP requests"):
        differences(working, off)
    silent = configuration(tmp_path, text="backend = []\nresolver = []\n")
    with pytest.raises(CommandError, match=f"{SERVER} answers none of 2 clients"):
        differences(silent, working)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mac", MAC), "--interface and --mac are for --diff SERVER"),
        (("--diff", "server"), "--diff server: is no address"),
        (("--diff", "fd77::1"), "a DHCPv6 server is asked in its own network: name the interface by --interface"),
        (("--diff", SERVER, "--mac", "52:54"), '--mac 52:54: is not a MAC address, such as "52:54:00:12:34:56"'),
    ],
)
def test_wrong_arguments_are_errors(
    capsys: pytest.CaptureFixture[str], cwd: Path, arguments: tuple[str, ...], message: str
) -> None:
    (cwd / "dnsmasq.conf").write_text("dhcp-range=10.77.0.0,proxy,255.255.255.0\ndhcp-boot=pxelinux.0\n")
    assert main(["import", "dnsmasq.conf", *arguments]) == 2
    assert capsys.readouterr().err == f"bootfw: {message}\n"
