"""``bootfw doctor``: each check reports its problem, and nothing else."""

import errno
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bootfw.build import Parts, load_parts
from bootfw.cli.dhcpclient import Offer
from bootfw.cli.hostchecks import (
    OK,
    PROBLEM,
    SKIPPED,
    WARNING,
    Check,
    Host,
    check_firewall,
    check_host,
    check_interfaces,
    check_loaders,
    check_multicast,
    check_neighbours,
    check_permissions,
    check_ports,
    check_security_modules,
    judge_offers,
    wanted_ports,
)
from bootfw.cli.main import main
from bootfw.config.settings import DHCPSettings, MulticastImage, MulticastSettings, Settings, TFTPSettings
from bootfw.dhcp.subnet import Subnet
from bootfw.net.linux.netlink import Link, LinkAddress, NeighbourTable
from bootfw.wire.dhcp4 import BOOTREPLY, Message
from bootfw.wire.options import Option

CONFIG = """
[bootfw]
state-dir = "state"
[tftp]
listen = ["127.0.0.1:{port}"]
[web]
listen = []
[dhcp]
mode = "off"
[[backend]]
use = "directory"
root = "boot"
"""


@pytest.fixture
def parts(cwd: Path) -> Parts:
    return load_configuration(cwd, CONFIG.format(port=0))


def load_configuration(cwd: Path, text: str) -> Parts:
    """The parts of a server with the configuration *text*."""
    (cwd / "boot").mkdir(exist_ok=True)
    (cwd / "bootfw.toml").write_text(text)
    return load_parts(cwd / "bootfw.toml", {}, None)


def results(checks: Iterable[Check]) -> list[tuple[str, str]]:
    """(name, result) of each check."""
    return [(check.name, check.result) for check in checks]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run ``bootfw doctor``, and return its exit code and the checks."""
    code = main(["doctor", "-c", "bootfw.toml", "--json", *arguments])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    return code, report["checks"]


def test_occupied_port_is_reported_with_its_program(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as socket_in_use:
        socket_in_use.bind(("127.0.0.1", 0))
        load_configuration(cwd, CONFIG.format(port=socket_in_use.getsockname()[1]))
        code, checks = doctor(capsys)
        (port,) = [check for check in checks if check["name"] == "ports"]
    assert code == 1
    assert port["result"] == PROBLEM
    assert "is taken by " in port["text"]


def test_output_is_text_by_default(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    load_configuration(cwd, CONFIG.format(port=0))
    main(["doctor", "-c", "bootfw.toml"])
    out = capsys.readouterr().out
    assert out.startswith("ok       configuration: bootfw.toml is right\nok       server: no server runs with ")
    assert "skipped  network: other DHCP servers are looked for with --probe-network\n" in out
    assert "warning" in out.splitlines()[-1]


def test_invalid_configuration_is_reported(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text("[tftp]\nlisten = 1\n")
    code, checks = doctor(capsys)
    assert code == 1
    assert [(check["name"], check["result"]) for check in checks] == [("configuration", PROBLEM)]


@pytest.mark.parametrize(
    ("code", "result", "text"),
    [
        (0, OK, "is free"),
        (errno.EACCES, PROBLEM, "needs root or CAP_NET_BIND_SERVICE"),
        (errno.EADDRINUSE, PROBLEM, "is taken by"),
        (errno.EADDRNOTAVAIL, WARNING, "does not have that address now"),
        (errno.EAFNOSUPPORT, WARNING, "has no IPv6"),
        (errno.EIO, PROBLEM, "Input/output error"),
    ],
)
def test_port_check_reports_occupied_and_forbidden_ports(code: int, result: str, text: str) -> None:
    host = Host(fault=lambda kind, address: code)
    (check,) = check_ports(host, [("tftp", "udp", ("0.0.0.0", 69))], None)
    assert (check.result, text in check.text) == (result, True)


def test_sockets_of_a_running_server_are_not_conflicts() -> None:
    sockets = [
        {"service": "tftp", "address": "10.0.0.1", "port": 69, "state": state, "reason": "it waits for eth1"}
        for state in ("bound", "waiting")
    ]
    checks = list(check_ports(Host(), [], {"sockets": sockets}))
    assert results(checks) == [("ports", OK), ("ports", PROBLEM)]
    assert checks[1].text == "tftp 10.0.0.1 port 69 is not bound: it waits for eth1"


def test_networks_of_a_running_server_are_not_checked_as_ports() -> None:
    sockets = [
        {"service": "dhcp", "address": "10.77.0.0/16", "port": 67, "state": state, "reason": "this host has: 10.0.0.1"}
        for state in ("bound", "waiting")
    ]
    assert [(each.result, each.text) for each in check_ports(Host(), [], {"sockets": sockets})] == [
        (OK, "dhcp 10.77.0.0/16: this host has an address in this network"),
        (PROBLEM, "dhcp 10.77.0.0/16: no address in this network: this host has: 10.0.0.1"),
    ]


def test_required_ports_follow_the_configuration(cwd: Path) -> None:
    parts = load_configuration(
        cwd, '[http]\nlisten = ["0.0.0.0:8069"]\n[dhcp6]\nmode = "proxy"\n[[resolver]]\nuse = "static"\nfile = "x"\n'
    )
    assert [(service, kind, address[1]) for service, kind, address in wanted_ports(parts.settings, parts)] == [
        ("dhcp", "udp", 67),
        ("boot-server", "udp", 4011),
        ("dhcp6", "udp", 547),
        ("tftp", "udp", 69),
        ("tftp", "udp", 69),
        ("http", "tcp", 8069),
    ]


def fake_host(tmp_path: Path, mtu: int = 1500, count: int = 1, rp_filter: str = "0", has_address: bool = True) -> Host:
    """A host with *count* interfaces, eth0 and so on."""
    names = [f"eth{number}" for number in range(count)]
    for name in ("all", *names):
        (tmp_path / "sys/net/ipv4/conf" / name).mkdir(parents=True)
        (tmp_path / "sys/net/ipv4/conf" / name / "rp_filter").write_text(f"{'0' if name == 'all' else rp_filter}\n")
    devices = [Link(number + 1, name, mtu, 1, b"\2" + bytes(5)) for number, name in enumerate(names)]
    addresses = [LinkAddress(each.index, socket.AF_INET, "10.0.0.1", 24, 0, 0) for each in devices if has_address]
    return Host(proc=tmp_path, links=lambda: devices, addresses=lambda: addresses)


def test_interface_check_reports_mtu_and_rp_filter(tmp_path: Path) -> None:
    settings = Settings()
    all_ok = [("interfaces", OK), ("mtu", OK), ("rp_filter", OK)]
    assert results(check_interfaces(fake_host(tmp_path / "a"), settings)) == all_ok
    small_mtu = results(check_interfaces(fake_host(tmp_path / "b", mtu=1400), settings))
    assert small_mtu == [("interfaces", OK), ("mtu", WARNING), ("rp_filter", OK)]
    without_address = results(check_interfaces(fake_host(tmp_path / "c", has_address=False), settings))
    assert without_address[0] == ("interfaces", PROBLEM)
    unknown_interface = Settings(interfaces=("nosuch0",))
    assert results(check_interfaces(fake_host(tmp_path / "d"), unknown_interface))[0] == ("interfaces", PROBLEM)


def test_strict_reverse_path_filter_is_reported_where_it_does_harm(tmp_path: Path) -> None:
    """It does no harm where all clients are on one link."""

    def result(name: str, settings: Settings, count: int = 1, rp_filter: str = "1") -> str:
        return results(check_interfaces(fake_host(tmp_path / name, count=count, rp_filter=rp_filter), settings))[-1][1]

    subnet = Subnet(network="10.9.0.0/24", pool=("10.9.0.10-10.9.0.20",), relays=("10.9.0.1",))
    relayed = Settings(dhcp=DHCPSettings(mode="server", subnets=(subnet,)))
    assert result("one", Settings()) == OK
    assert result("two", Settings(), count=2) == WARNING
    assert result("relayed", relayed) == WARNING
    assert result("loose", relayed, rp_filter="2") == OK


MULTICAST = MulticastSettings(listen=(("0.0.0.0", 64494),))


def multicast_host(directory: Path, count: int = 1, flags: str = "0x1003") -> Host:
    """A host whose last interface has these flags of net_device."""
    host = fake_host(directory, count=count)
    host.sys = directory / "class-sys"
    for number in range(count):
        (host.sys / f"class/net/eth{number}").mkdir(parents=True)
        (host.sys / f"class/net/eth{number}/flags").write_text(f"{flags if number == count - 1 else '0x1003'}\n")
    return host


def test_multicast_is_checked_where_it_is_configured(tmp_path: Path) -> None:
    host = multicast_host(tmp_path)
    assert results(check_multicast(host, Settings())) == []
    unicast = MulticastSettings(listen=MULTICAST.listen, methods=("unicast",))
    assert results(check_multicast(host, Settings(multicast=unicast))) == []
    with_image = MulticastSettings(images=(MulticastImage("disk.img", ("239.192.2.1", 3564)),))
    with_tftp = TFTPSettings(multicast_groups="239.255.77.1-239.255.77.14")
    for settings in (Settings(multicast=MULTICAST), Settings(multicast=with_image), Settings(tftp=with_tftp)):
        assert results(check_multicast(host, settings)) == [("multicast", OK)]


def test_interface_without_multicast_is_reported(tmp_path: Path) -> None:
    host = multicast_host(tmp_path, count=2, flags="0x3")
    (check,) = check_multicast(host, Settings(multicast=MULTICAST))
    assert (check.result, check.text.split(":")[0], check.remedy) == (WARNING, "eth1", "ip link set eth1 multicast on")
    (check,) = check_multicast(host, Settings(interfaces=("eth0",), multicast=MULTICAST))
    assert check.result == OK
    host.sys = tmp_path / "none"
    assert results(check_multicast(host, Settings(multicast=MULTICAST))) == [("multicast", OK)]


def test_subnets_that_multicast_does_not_reach_are_reported(tmp_path: Path) -> None:
    subnets = tuple(
        Subnet(network=f"10.{number}.0.0/24", pool=(f"10.{number}.0.10-10.{number}.0.20",)) for number in (0, 9)
    )
    host = multicast_host(tmp_path)

    def warnings(ttl: int, groups: str = "") -> list[str]:
        settings = Settings(
            dhcp=DHCPSettings(mode="server", subnets=subnets, foreign_networks=True),
            multicast=MulticastSettings(listen=MULTICAST.listen, ttl=ttl),
            tftp=TFTPSettings(multicast_groups=groups),
        )
        return [check.text for check in check_multicast(host, settings) if check.result == WARNING]

    (text,) = warnings(1)
    assert text.startswith("this host has no address in 10.9.0.0/24, so machines there")
    assert text.endswith(": [multicast] ttl is 1")
    assert warnings(2) == []
    (text,) = warnings(2, "239.255.77.1-239.255.77.14")
    assert text.endswith(": [tftp] multicast-ttl is 1")


def test_required_ports_include_those_of_images() -> None:
    images = (MulticastImage("disk.img", ("239.192.2.1", 3564)),)
    settings = Settings(
        dhcp=DHCPSettings(mode="off"), multicast=MulticastSettings(listen=MULTICAST.listen, images=images)
    )
    ports = wanted_ports(settings, Parts.__new__(Parts))
    assert ("multicast-master", "tcp", ("0.0.0.0", 64494)) in ports
    assert ("multicast", "udp", ("0.0.0.0", 3564)) in ports


def test_overflow_of_the_neighbour_table_is_reported() -> None:
    free = NeighbourTable(socket.AF_INET, entries=9, most=1024, overflows=0)
    full = NeighbourTable(socket.AF_INET6, entries=1024, most=1024, overflows=7)
    (check,) = check_neighbours(Host(neighbour_tables=lambda: [free]))
    assert (check.result, check.text) == (OK, "the kernel has room for 1024 by IPv4, on all links together")
    (check,) = check_neighbours(Host(neighbour_tables=lambda: [free, full]))
    assert check.result == WARNING
    assert check.text.endswith("dropped what was sent to it: net.ipv6.neigh.default.gc_thresh3 is 1024")
    assert not list(check_neighbours(Host(neighbour_tables=list)))


def test_permission_check_reports_state_boot_files_and_capabilities(parts: Parts, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/status").write_text("Name:\tx\nCapEff:\t0000000000000400\n")
    all_ok = [("state", OK), ("boot files", OK), ("capabilities", OK)]
    assert results(check_permissions(Host(proc=proc), parts.settings, parts, tmp_path / "state")) == all_ok
    subnet = Subnet(network="10.9.0.0/24", pool=("10.9.0.10-10.9.0.20",))
    server = Settings(dhcp=DHCPSettings(mode="server", subnets=(subnet,)))
    missing_capabilities = list(check_permissions(Host(proc=proc), server, parts, tmp_path / "state"))[2:]
    assert [check.text.split(",")[0] for check in missing_capabilities] == [
        "this user lacks CAP_NET_ADMIN",
        "this user lacks CAP_NET_RAW",
    ]
    (tmp_path / "boot").rmdir()
    assert ("boot files", PROBLEM) in results(check_permissions(Host(proc=proc), parts.settings, parts, tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_inaccessible_directories_are_reported(parts: Parts, tmp_path: Path) -> None:
    """So it is with "sudo -u nobody", which does not change HOME."""
    tmp_path.chmod(0o700)
    host = Host()
    os.setresuid(65534, 65534, 0)
    try:
        found = results(check_permissions(host, parts.settings, parts, tmp_path / "state"))
        assert found[:2] == [("state", PROBLEM), ("boot files", PROBLEM)]
        assert not [check for check in check_security_modules(host, parts) if check.result == PROBLEM]
    finally:
        os.setresuid(0, 0, 0)


def test_loader_check_reports_missing_boot_files(cwd: Path) -> None:
    resolver = '[[resolver]]\nuse = "by-architecture"\nfiles = {x86-bios = "pxelinux.0", ipxe = "{http}/boot.ipxe"}\n'
    backend = '[[backend]]\nuse = "directory"\nroot = "boot"\n[http]\nlisten = ["127.0.0.1:0"]\n'
    parts = load_configuration(cwd, resolver + backend)
    assert [check.text for check in check_loaders(parts)] == [
        "resolver by-architecture names pxelinux.0 for x86-bios, and no backend has it",
        "resolver by-architecture names boot.ipxe for ipxe, and no backend has it",
    ]
    for name in ("pxelinux.0", "boot.ipxe"):
        (cwd / "boot" / name).write_text("x")
    assert results(check_loaders(parts)) == [("loaders", OK)]
    assert results(check_loaders(load_configuration(cwd, "resolver = []\n" + backend))) == [("loaders", PROBLEM)]


NFT = """
table inet filter {
  chain input {
    type filter hook input priority filter; policy POLICY;
    ct state established accept
    RULE
  }
}
"""

IPTABLES = "*filter\n:INPUT POLICY [0:0]\n-A INPUT -p tcp --dport 69 -j DROP\nRULE\nCOMMIT\n"


@pytest.mark.parametrize(
    ("rules", "policy", "rule", "expected"),
    [
        (NFT, "accept", "", [OK]),
        (NFT, "drop", "", [WARNING, WARNING]),
        (NFT, "drop", "udp dport { 67, 69 } accept", [OK]),
        (NFT, "drop", "udp dport 60-70 accept", [OK]),
        (NFT, "drop", "udp dport { bootps, tftp } accept", [OK]),
        (NFT, "drop", "tcp dport 67-69 accept", [WARNING, WARNING]),
        (NFT, "drop", "udp dport 67 accept", [WARNING]),
        (NFT, "accept", "udp dport 69 drop", [PROBLEM]),
        (NFT, "accept", "udp dport 690 drop", [OK]),
        (IPTABLES, "ACCEPT", "", [OK]),
        (IPTABLES, "DROP", "-A INPUT -p udp -m multiport --dports 67,69 -j ACCEPT", [OK]),
        (IPTABLES, "DROP", "", [WARNING, WARNING]),
        (IPTABLES, "ACCEPT", "-A INPUT -p udp -m udp --dport 67:68 -j REJECT", [PROBLEM]),
    ],
)
def test_firewall_check_reports_blocked_ports(rules: str, policy: str, rule: str, expected: list[str]) -> None:
    text = rules.replace("POLICY", policy).replace("RULE", rule)
    program = "nft" if rules is NFT else "iptables-save"
    host = Host(command=lambda command: text if command[0] == program else None)
    ports = [("dhcp", "udp", ("0.0.0.0", 67)), ("tftp", "udp", ("0.0.0.0", 69))]
    assert [check.result for check in check_firewall(host, ports)] == expected


def test_unreadable_firewall_is_reported() -> None:
    assert results(check_firewall(Host(command=lambda command: None), [])) == [("firewall", SKIPPED)]


@pytest.mark.parametrize(
    ("synchronized", "result", "text"),
    [(True, OK, "and is synchronized"), (False, WARNING, "nothing synchronizes it"), (None, OK, "is not known")],
)
def test_clock_check_reports_whether_it_is_synchronized(
    tmp_path: Path, synchronized: bool | None, result: str, text: str
) -> None:
    clock, _ = check_host(Host(clock_is_synchronized=lambda: synchronized), tmp_path)
    assert clock.result == result
    assert text in clock.text


def test_clock_state_is_read_from_the_kernel() -> None:
    """By adjtimex(2), as timedatectl does."""
    assert Host().clock_is_synchronized() in (True, False)


def host_with_security_modules(tmp_path: Path, *, enforce: str = "", profile: str = "", label: str = "") -> Host:
    """A host with SELinux, AppArmor, or neither.

    :param enforce: whether SELinux enforces: "1", "0", or "" for a kernel without it.
    :param profile: the AppArmor profile of the process.
    :param label: the SELinux label of each file.
    """
    for path, content in (("sys/fs/selinux/enforce", enforce), ("proc/self/attr/current", profile)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return Host(proc=tmp_path / "proc", sys=tmp_path / "sys", label=lambda path: label)


def test_selinux_is_reported_where_it_enforces_and_the_boot_files_have_no_label_for_services(
    tmp_path: Path, parts: Parts
) -> None:
    for enforce, label, expected in (
        ("1", "unconfined_u:object_r:user_home_t:s0", [("selinux", WARNING)]),
        ("1", "", [("selinux", WARNING)]),
        ("1", "system_u:object_r:tftpdir_t:s0", [("selinux", OK)]),
        ("1", "system_u:object_r:tftpdir_rw_t:s0", [("selinux", OK)]),
        ("0", "unconfined_u:object_r:user_home_t:s0", []),
        ("", "", []),
    ):
        checks = check_security_modules(host_with_security_modules(tmp_path, enforce=enforce, label=label), parts)
        assert results(checks) == expected, (enforce, label)


def test_apparmor_is_reported_where_it_confines_this_program(tmp_path: Path, parts: Parts) -> None:
    (check,) = check_security_modules(host_with_security_modules(tmp_path, profile="bootfw (enforce)\n"), parts)
    assert (check.name, check.result) == ("apparmor", WARNING)
    assert "profile bootfw:" in check.text
    for profile in ("unconfined\n", "bootfw (complain)\n", ""):
        assert results(check_security_modules(host_with_security_modules(tmp_path, profile=profile), parts)) == []


@pytest.mark.parametrize(
    ("listen", "mode", "boot", "reported"),
    [
        ("", "proxy", 'file = "boot.efi"', True),
        ('"0.0.0.0:69"', "proxy", 'file = "boot.efi"', False),
        ("", "off", 'file = "boot.efi"', False),
        ("", "proxy", 'file = "http://10.0.0.1/boot.efi"', False),
        ("", "proxy", 'file = "boot.efi"\nserver = "10.0.0.1"', False),
    ],
)
def test_boot_file_for_tftp_is_reported_while_tftp_is_off(
    cwd: Path, listen: str, mode: str, boot: str, reported: bool
) -> None:
    text = CONFIG.replace('"127.0.0.1:{port}"', listen).replace('mode = "off"', f'mode = "{mode}"')
    parts = load_configuration(cwd, f'{text}\n[[resolver]]\nuse = "static"\n{boot}\n')
    texts = [check.text for check in check_loaders(parts) if check.result == PROBLEM and "TFTP is off" in check.text]
    assert texts == (["TFTP is off, and resolver static names boot.efi for TFTP from this server"] if reported else [])


def test_host_check_reports_clock_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results(check_host(Host(clock_is_synchronized=lambda: True), tmp_path / "state")) == [
        ("clock", OK),
        ("disk", OK),
    ]
    assert results(check_host(Host(now=lambda: 0.0), tmp_path)) == [("clock", PROBLEM), ("disk", OK)]
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    assert results(check_host(Host(clock_is_synchronized=lambda: True), tmp_path)) == [("clock", OK), ("disk", PROBLEM)]


def offer(server: str, address: str = "0.0.0.0", file: bytes = b"") -> Offer:
    """An OFFER that a DHCP server has sent."""
    options: dict[int, bytes] = {Option.SERVER_IDENTIFIER: socket.inet_aton(server), Option.BOOTFILE_NAME: file}
    return Offer(Message(op=BOOTREPLY, xid=1, chaddr=bytes(6), yiaddr=address, options=options), server, 0.1)


@pytest.mark.parametrize(
    ("offers", "mode", "expected"),
    [
        ([], "proxy", [PROBLEM]),
        ([], "server", [OK]),
        ([offer("10.0.0.1", "10.0.0.50")], "proxy", [OK]),
        ([offer("10.0.0.1", "10.0.0.50")], "server", [PROBLEM]),
        ([offer("10.0.0.9", "10.0.0.50")], "server", [OK]),  # that of this host
        ([offer("10.0.0.1", "10.0.0.50"), offer("10.0.0.2", "10.0.0.60")], "proxy", [WARNING]),
        ([offer("10.0.0.1", "10.0.0.50", b"pxelinux.0")], "proxy", [OK, WARNING]),
    ],
)
def test_network_check_reports_other_servers(offers: list[Offer], mode: str, expected: list[str]) -> None:
    checks = judge_offers("eth0", offers, frozenset(("10.0.0.9",)), mode)
    assert [check.result for check in checks] == expected
