"""``bootfw wake`` without a network; tests/interop/test_wake.py receives what it sends."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootfw.api import DHCPSettings, Host, Settings, Subnet
from bootfw.cli.main import main
from bootfw.cli.wake import distant_broadcasts, served
from bootfw.net.linux.netlink import Link, LinkAddress

MAC = "52:54:00:12:34:56"
ETHERNET, LOOPBACK, TUNNEL = 1, 772, 65534
GLOBAL, LINK_LOCAL, HOST = 0, 253, 254
LINKS = [
    Link(index, name, 1500, kind, b"")
    for index, name, kind in [
        (1, "lo", LOOPBACK),
        (2, "eth0", ETHERNET),
        (3, "br0", ETHERNET),
        (4, "port", ETHERNET),
        (5, "tun0", TUNNEL),
        (6, "eth6", ETHERNET),
    ]
]
ADDRESSES = [
    LinkAddress(index, family, address, 24, scope, 0)
    for index, family, address, scope in [
        (1, socket.AF_INET, "127.0.0.1", HOST),
        (2, socket.AF_INET, "10.0.0.1", GLOBAL),
        (3, socket.AF_INET, "10.1.0.1", GLOBAL),
        (4, socket.AF_INET6, "fe80::4", LINK_LOCAL),
        (5, socket.AF_INET, "10.5.0.1", GLOBAL),
        (6, socket.AF_INET6, "fd00::6", GLOBAL),
    ]
]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), ["eth0", "br0", "eth6"]),
        (Settings(except_interfaces=["br0"]), ["eth0", "eth6"]),
        (Settings(interfaces=["port", "eth0"], except_interfaces=["eth0"]), ["port"]),
    ],
)
def test_packet_is_sent_on_the_interfaces_that_are_served(settings: Settings, names: Sequence[str]) -> None:
    assert served(settings, LINKS, ADDRESSES) == names


@pytest.mark.parametrize(
    ("own_addresses", "expected"), [(["10.0.0.1"], ["10.9.0.255"]), (["10.0.0.1", "10.9.0.1"], [])]
)
def test_packet_is_also_sent_to_the_distant_subnet_of_a_reservation(
    own_addresses: Sequence[str], expected: Sequence[str]
) -> None:
    remote = Subnet(network="10.9.0.0/24", hosts=[Host(mac="52:54:00:00:00:01", other_macs=[MAC])])
    unrelated = Subnet(network="10.8.0.0/24", hosts=[Host(mac="52:54:00:00:00:02")])
    settings = Settings(dhcp=DHCPSettings(mode="server", subnets=[unrelated, remote]))
    assert distant_broadcasts(MAC, settings, [IPv4Address(each) for each in own_addresses]) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["52:54"], 'MAC must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (["-i", "absent", MAC], "--interface: no interface absent; there are: "),
        (["--password", "secret", MAC], '--password must be like "00:22:44:66:88:aa" or "192.168.1.1", not "secret"'),
        (["--password", "1.2.3", MAC], '--password must be like "00:22:44:66:88:aa" or "192.168.1.1", not "1.2.3"'),
    ],
)
def test_invalid_arguments_are_reported(
    arguments: Sequence[str], message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wake", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"bootfw: {message}")


def test_failure_to_send_is_reported(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "bootfw.toml").write_text('[bootfw]\ninterfaces = ["absent"]\n')
    assert main(["wake", "-c", "bootfw.toml", MAC]) == 1
    reason, summary = capsys.readouterr().err.splitlines()
    assert reason.startswith(f"bootfw: {MAC}: can't be sent on absent: ")
    assert summary == f"bootfw: nothing was sent to {MAC}"
