"""Real DHCPv6 clients and real firmware live on ``twistd bootfw`` alone: no other server is there."""

import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bootfw.wire.dhcp6 import Message, MessageType, pack
from bootfw.wire.options6 import Option, uint16s_bytes

from .capture import Capture
from .dhcp6clients import CLIENTS, MAC, RENEWAL_SECONDS
from .dhcpclients import DHCPClient
from .lab import Host, Lab, Program, need, wait_until
from .leaselife import LeaseLife
from .machines.uefi import start_uefi_machine
from .service import start_bootfw

pytestmark = pytest.mark.interop

SECONDS = 240


@pytest.fixture
def server(lab: Lab) -> Host:
    host = lab.host("bootfw", "fd77::1/64")
    wait_until(lambda: has_link_local(host), 10, "the server's link-local address can be used")
    return host


def _addresses_of_scope(host: Host, scope: str) -> str:
    command = ("ip", "-n", host.namespace, "-6", "-o", "address", "show", "dev", "eth0", "scope", scope)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def has_link_local(host: Host) -> bool:
    listing = _addresses_of_scope(host, "link")
    return "fe80" in listing and "tentative" not in listing


def addresses(host: Host) -> list[str]:
    """The global ones of IPv6."""
    return [line.split()[3].partition("/")[0] for line in _addresses_of_scope(host, "global").splitlines()]


def start(server: Host, lab: Lab, more_settings: str = "", *ports: int) -> Program:
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [tftp]
        listen = ["[::]:69"]
        [dhcp]
        mode = "off"
        [dhcp6]
        mode = "server"
        [[dhcp6.subnet]]
        network = "fd77::/64"
        pool = ["fd77::1000-fd77::1fff"]
        lease-seconds = 60
        dns = ["fd77::1"]
        domain = "lab.example"
        {more_settings}
    """
    return start_bootfw(server, lab.directory, configuration, 547, *ports)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_real_client_gets_renews_and_releases_its_address(
    lab: Lab, server: Host, client: DHCPClient, tmp_path: Path
) -> None:
    start(server, lab)
    host = lab.host("client", mac=MAC)
    wait_until(lambda: has_link_local(host), 10, "the client's link-local address can be used")
    program = client.start(host, tmp_path)

    program.wait_until(
        lambda: any(address.startswith("fd77::1") for address in addresses(host)), 30, "it has an address"
    )
    life = LeaseLife(lab, server, client, program)
    life.assert_active(addresses(host)[0])

    life.assert_renewed(RENEWAL_SECONDS)

    life.assert_released()


@pytest.mark.firmware  # in test_howto: iPXE by addresses of this server, and EDK2 by those of another
@pytest.mark.parametrize("http", [False, True], ids=["pxe", "http"])
def test_uefi_boots_from_this_server_alone(lab: Lab, server: Host, tmp_path: Path, http: bool) -> None:
    """EDK2 takes the file of the server's answer, and iPXE, which that is, its script."""
    program = Path("/usr/lib/ipxe/snponly.efi")
    need(str(program))
    marker = f"marker-{secrets.token_hex(8)}"
    (tmp_path / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\nsleep 600\n")
    bootfw = start(
        server,
        lab,
        f"""
        [http]
        listen = ["[::]:80"]
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
        x86_64-uefi-http = "snponly.efi"
        ipxe = "{{http}}/boot.ipxe"
        """,
        69,
    )
    router = lab.host("router", "fd77::2/64")
    wait_until(lambda: has_link_local(router), 10, "the router's link-local address can be used")
    router.start(sys.executable, Path(__file__).with_name("advertise.py"), "eth0", "fd77::", "MO", name="router")
    console = start_uefi_machine(lab, pxe4=False, pxe6=not http)
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")
    assigned = {line.split("REPLY of ")[1].split()[0] for line in bootfw.output.splitlines() if "REPLY of" in line}
    assert len(assigned) == 1, "one machine, one address"


def test_perfdhcp_loses_no_exchange_and_tshark_reports_no_malformed_packets(
    lab: Lab, server: Host, tmp_path: Path
) -> None:
    need("perfdhcp")
    start(server, lab, 'options.vendor-opts = {"9" = {"1" = {text = "hi"}}, "32473" = {"2" = {address = "fd77::1"}}}')
    capture = Capture.start(server, tmp_path)
    host = lab.host("clients")
    wait_until(lambda: has_link_local(host), 10, "the clients' link-local address can be used")
    for options in ((), ("-A1",)):
        result = host.run(
            *("perfdhcp", "-6", "-l", "eth0", "-r", "20", "-R", "50", "-p", "3", "-W", "1000000", *options, "all"),
            seconds=30,
        )
        assert result.exit_code == 0, result.output
        assert "drops: 0" in result.output
        assert "drops: 1" not in result.output
    request = Message(MessageType.INFORMATION_REQUEST, 0xB00F, ((Option.OPTION_REQUEST, uint16s_bytes([17])),))
    with host.udp_socket("::", 546) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        client.sendto(pack(request), ("ff02::1:2", 547))
        client.recv(2000)
    capture.stop()

    from_server = "udp.srcport == 547"
    kinds = capture.fields(from_server, "dhcpv6.msgtype")
    for kind in ("2", "7", "13,2", "13,7"):
        assert kinds.count(kind) >= 40, kind
    assert capture.faults(from_server) == []
    vendor = "dhcpv6.vendoropts.enterprise"
    assert capture.fields(
        f"{from_server} && dhcpv6.xid == 0xB00F", vendor, f"{vendor}.option_code", f"{vendor}.option_data"
    ) == [f"9,32473\t1,2\t6869,fd77{'00' * 13}01"]
