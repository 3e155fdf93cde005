"""``bootfw import --diff`` by DHCPv6 without a network: two configurations as the old server and the new one."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from bootfw.cli.failure import CommandError
from bootfw.cli.importdiff import Comparison, Difference, Question
from bootfw.cli.importdiff6 import DryServer6, compare6, questions6
from bootfw.cli.netboot import PROFILES
from bootfw.config.configuration import Configuration, load_config

SERVER, MAC = "fd77::1", "52:54:00:12:34:56"

CONFIG = """
backend = []
[tftp]
listen = []
[dhcp]
mode = "off"
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::1000-fd77::1fff"]
dns = ["fd77::53"]
[[dhcp6.subnet.host]]
mac = "52:54:00:12:34:56"
address = "fd77::7"
[[resolver]]
use = "static"
file = "tftp://[fd77::1]/shimx64.efi"
"""


def configuration(directory: Path, *changes: tuple[str, str]) -> Configuration:
    """CONFIG with (old, new) replaced in it."""
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "bootfw.toml"
    path.write_text(text)
    return load_config(path, {})


def comparison(old: Configuration, new: Configuration, mac: str = "52:54:00:00:00:01") -> Comparison:
    """The answers of *old* and *new* to UEFI firmware with *mac*."""
    clients = [Question(PROFILES["uefi"], mac), Question(PROFILES["uefi"], "02:00:00:00:00:01")]
    return compare6(new, SERVER, DryServer6(old, SERVER, Clock()).query, clients, Clock())[0]


def test_equal_configurations_do_not_differ_in_the_address_of_the_pool(tmp_path: Path) -> None:
    new = configuration(tmp_path, ("fd77::1000-fd77::1fff", "fd77::2000-fd77::2fff"))
    assert comparison(configuration(tmp_path), new).differences == ()


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("shimx64.efi", "x.efi", Difference("boot file", "tftp://[fd77::1]/shimx64.efi", "tftp://[fd77::1]/x.efi")),
        ('dns = ["fd77::53"]', "", Difference("dns-servers (23)", "fd77::53", "")),
    ],
)
def test_each_difference_is_reported(tmp_path: Path, old: str, new: str, difference: Difference) -> None:
    first, second = configuration(tmp_path), configuration(tmp_path, (old, new))
    assert comparison(first, second).differences == (difference,)
    assert comparison(second, first).differences == (Difference(difference.part, difference.new, difference.old),)


def test_reserved_addresses_are_compared(tmp_path: Path) -> None:
    first, second = configuration(tmp_path), configuration(tmp_path, ("fd77::7", "fd77::8"))
    assert comparison(first, second).differences == ()
    assert comparison(first, second, MAC).differences == (Difference("address", "fd77::7", "fd77::8"),)


def test_kinds_of_clients_and_machines_of_the_configuration_are_compared(tmp_path: Path) -> None:
    clients, left_out = questions6(configuration(tmp_path))
    assert (len(clients), left_out) == (7, 0)
    assert [str(each) for each in clients[-2:]] == [f"uefi {MAC}", f"ipxe {MAC}"]
    assert questions6(configuration(tmp_path), ["02:00:00:00:00:09"])[0][-1].mac == "02:00:00:00:00:09"


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    clients = [Question(PROFILES["uefi"], MAC)]
    with pytest.raises(CommandError, match="fd77::1 answers none of 1 clients"):
        compare6(configuration(tmp_path), SERVER, lambda build: [], clients, Clock())
    (tmp_path / "off.toml").write_text('[dhcp6]\nmode = "off"\n')
    with pytest.raises(CommandError, match="answers no DHCPv6 requests"):
        compare6(load_config(tmp_path / "off.toml", {}), SERVER, lambda build: [], clients, Clock())
