"""Real DHCP clients and real firmware live on ``twistd bootfw`` alone: no other server is there."""

import secrets
from pathlib import Path

import pytest

from .capture import Capture
from .dhcpclients import CLIENTS, RENEWAL_SECONDS, DHCPClient, dhcpcd
from .lab import Host, Lab, Program, need
from .leaselife import LeaseLife
from .machines.bios import start_bios_machine
from .machines.uefi import start_uefi_machine
from .service import start_bootfw

pytestmark = pytest.mark.interop

SECONDS = 90


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("bootfw", "10.77.0.1/24")


def start(server: Host, lab: Lab, more_settings: str = "", *ports: int, dhcp: str = "") -> Program:
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [dhcp]
        mode = "server"
        {dhcp}
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        lease-seconds = 60
        router = "10.77.0.1"
        {more_settings}
    """
    return start_bootfw(server, lab.directory, configuration, 67, *ports)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_real_client_gets_renews_and_releases_its_address(
    lab: Lab, server: Host, client: DHCPClient, tmp_path: Path
) -> None:
    start(server, lab)
    host = lab.host("client")
    program = client.start(host, tmp_path)

    program.wait_until(lambda: host.addresses() == ["10.77.0.100/24"], 20, "it has an address")
    life = LeaseLife(lab, server, client, program)
    life.assert_active("10.77.0.100")

    life.assert_renewed(RENEWAL_SECONDS)
    assert host.addresses() == ["10.77.0.100/24"]

    life.assert_released()


def test_dhcpcd_gets_its_address_by_rapid_commit(lab: Lab, server: Host, tmp_path: Path) -> None:
    """RFC 4039."""
    bootfw = start(server, lab, "rapid-commit = true")
    host = lab.host("client")
    program = dhcpcd(host, tmp_path, "--option", "rapid_commit")
    program.wait_for("leased 10.77.0.", 30)

    text = program.output
    assert "acknowledged 10.77.0." in text
    assert "REQUEST" not in text
    bootfw.wait_for("dhcp leases 10.77.0.", 30)


def test_an_address_in_use_is_not_offered(lab: Lab, server: Host) -> None:
    need("busybox")
    bootfw = start(server, lab)
    lab.host("squatter", "10.77.0.100/24")
    client = lab.host("client")
    result = client.run("busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true", seconds=20)

    assert "lease of 10.77.0.101 obtained" in result.output
    assert "10.77.0.100 is in use without a lease" in bootfw.output


_SCRIPT = """#!/bin/sh
# dhclient and udhcpc have names of their own for the same.
[ -n "$new_ip_address$ip" ] && echo "file=${new_filename:-$boot_file} option=${new_bootfile_name:-$bootfile}" \\
    "server=${new_tftp_server_name:-$tftp}"
exit 0
"""


@pytest.mark.parametrize("client", ["udhcpc", "dhclient"])
def test_a_client_that_only_requests_a_boot_file_gets_it(lab: Lab, server: Host, client: str, tmp_path: Path) -> None:
    bootfw = start(server, lab, '[[resolver]]\nuse = "static"\nfile = "board.bin"\n')
    script, configuration = tmp_path / "script", tmp_path / "dhclient.conf"
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    configuration.write_text("request subnet-mask, tftp-server-name, bootfile-name;\n")
    host = lab.host("client")
    if client == "udhcpc":
        need("busybox")
        options = ("-f", "-q", "-n", "-i", "eth0", "-O", "tftp", "-O", "bootfile", "-s", script)
        program = host.run("busybox", "udhcpc", *options, seconds=20)
    else:
        need("dhclient")
        files = ("-sf", script, "-cf", configuration, "-lf", tmp_path / "leases", "-pf", tmp_path / "pid")
        program = host.start("dhclient", "-d", "-1", "-v", *files, "eth0")
        program.wait_for("bound to", 90)

    assert "file=board.bin option=board.bin server=10.77.0.1" in program.output
    assert "(plain, unknown, on eth0)" in bootfw.output


@pytest.fixture
def relay(lab: Lab, server: Host) -> Host:
    """A router to another network, 10.78.0.0/24, that relays."""
    need("dnsmasq")
    router = lab.router("router", "10.77.0.254/24", "10.78.0.1/24")
    server.ip("route", "add", "10.78.0.0/24", "via", "10.77.0.254")
    options = ("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=")
    router.start("dnsmasq", *options, "--log-facility=-", "--dhcp-relay=10.78.0.1,10.77.0.1").wait_until_bound(67)
    return router


RELAYED_SUBNET = """
        [[dhcp.subnet]]
        network = "10.78.0.0/24"
        pool = ["10.78.0.100-10.78.0.200"]
        relays = ["10.78.0.1"]
        router = "10.78.0.1"
"""


@pytest.mark.parametrize(
    ("dhcp", "expected"),
    [("", "10.78.0.101"), ("probe-seconds = 0", "10.78.0.100")],
    ids=["probed", "not probed"],
)
def test_an_address_in_use_behind_a_relay(lab: Lab, server: Host, relay: Host, dhcp: str, expected: str) -> None:
    need("busybox")
    bootfw = start(server, lab, RELAYED_SUBNET, dhcp=dhcp)
    squatter = lab.host("squatter", "10.78.0.100/24", segment="far")
    squatter.ip("route", "add", "default", "via", "10.78.0.1")
    client = lab.host("client", segment="far")
    result = client.run("busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true", seconds=20)

    assert f"lease of {expected} obtained" in result.output
    assert ("10.78.0.100 is in use without a lease: a ping is answered" in bootfw.output) == (not dhcp)


@pytest.mark.firmware  # as bios-ipxe
def test_a_pxe_rom_boots_from_this_server_alone(lab: Lab, server: Host, tmp_path: Path) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    (tmp_path / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    bootfw = start(
        server,
        lab,
        f"""
        [[backend]]
        use = "directory"
        root = "{tmp_path}"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        ipxe = "boot.ipxe"
        """,
        69,
    )
    console = start_bios_machine(lab, "e1000")
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")
    assert "ACK of 10.77.0.100" in bootfw.output


@pytest.mark.firmware  # as test_howto.test_readme_without_a_configuration
def test_uefi_boots_from_this_server_alone(lab: Lab, server: Host, tmp_path: Path) -> None:
    """EDK2 takes the file of the server's offer, and iPXE, which that is, its script."""
    program = Path("/usr/lib/ipxe/snponly.efi")
    need(str(program))
    marker = f"marker-{secrets.token_hex(8)}"
    (tmp_path / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    bootfw = start(
        server,
        lab,
        f"""
        [[backend]]
        use = "directory"
        root = "{tmp_path}"
        [[backend]]
        use = "directory"
        root = "{program.parent}"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        x86_64-uefi = "snponly.efi"
        ipxe = "boot.ipxe"
        """,
        69,
    )
    console = start_uefi_machine(lab)
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")
    assert "10.77.0.101" not in bootfw.output, "one machine, one address"


def test_perfdhcp_loses_no_exchange(lab: Lab, server: Host) -> None:
    need("perfdhcp")
    start(server, lab)
    host = lab.host("clients", "10.77.0.9/24")
    result = host.run(
        *("perfdhcp", "-4", "-l", "eth0", "-r", "20", "-R", "50", "-p", "3", "-W", "1000000", "-x", "i", "10.77.0.1"),
        seconds=30,
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("drops: 0") == 2, result.output


def test_tshark_reports_no_malformed_packets(lab: Lab, server: Host, tmp_path: Path) -> None:
    need("perfdhcp")
    need("busybox")
    start(
        server,
        lab,
        """
        domain = "lab.example"
        dns = ["10.77.0.1", "10.77.0.2"]
        options = { ntp-servers = ["10.77.0.1"], domain-search = ["lab.example"], "224" = { uint16 = 7 } }
        [[resolver]]
        use = "static"
        file = "boot.file"
        """,
    )
    capture = Capture.start(server, tmp_path)
    clients = lab.host("clients", "10.77.0.9/24")
    for vendor_class in ("PXEClient:Arch:00000:UNDI:002001", "PXEClient:Arch:00007:UNDI:003000", "U-Boot", "udhcp"):
        options = ("-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true", "-V", vendor_class)
        assert clients.run("busybox", "udhcpc", *options, seconds=20).exit_code == 0
    clients.run(
        "perfdhcp", "-4", "-l", "10.77.0.9", "-r", "5", "-n", "5", "-R", "5", "-W", "1000000", "10.77.0.1", seconds=20
    )
    capture.stop()

    from_server = "udp.srcport == 67 && ip.src == 10.77.0.1"
    kinds = capture.fields(from_server, "dhcp.option.dhcp")
    assert kinds.count("2") >= 9
    assert kinds.count("5") >= 9
    assert capture.faults(from_server) == []
