"""``bootfw wake`` and what arrives at the card of a machine that is off: it has no address, and sees every frame."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from howtos import blocks

from bootfw.wire.wakeonlan import magic_packet

from .lab import Host, Lab, Program

pytestmark = pytest.mark.interop

COMMAND = str(Path(sys.executable).with_name("bootfw"))
MAC, OTHER_MAC = "52:54:00:12:34:56", "52:54:00:12:34:57"
BROADCAST = b"\xff" * 6


UNPRIVILEGED = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


def wake(host: Host, *arguments: str, prefix: Sequence[str] = ()) -> Program:
    return host.run(*prefix, COMMAND, "wake", *arguments, seconds=60)


def wait_for_packets(card: socket.socket, packets: Sequence[bytes]) -> None:
    """Returns when each of *packets* has arrived, in order, in a broadcast frame."""
    card.settimeout(60)
    for packet in packets:
        while not ((frame := card.recv(2000)).startswith(BROADCAST) and frame.endswith(packet)):
            pass


def test_cards_of_the_segment_get_their_packets(lab: Lab) -> None:
    """From a process without any permission, also where the server has IPv6 addresses only."""
    password = ("--password", "00:22:44:66:88:aa")
    macs = [bytes.fromhex(mac.replace(":", "")) for mac in (MAC, OTHER_MAC)]
    packets = [magic_packet(mac, bytes.fromhex("0022446688aa")) for mac in macs]
    for name, address in (("server", "10.77.0.1/24"), ("server6", "fd77::1/64")):
        server = lab.host(name, address)
        with lab.host(f"{name}-machine").packet_socket() as card:
            result = wake(server, *password, MAC, OTHER_MAC, prefix=UNPRIVILEGED)
            assert result.output == f"{MAC}: sent on eth0\n{OTHER_MAC}: sent on eth0\n"
            assert result.exit_code == 0
            wait_for_packets(card, packets)


def test_the_page_wakes_a_machine(lab: Lab) -> None:
    command, expected = blocks("power.md", "console")[0].splitlines()
    server = lab.host("server", "10.77.0.1/24")
    with lab.host("machine").packet_socket() as card:
        assert wake(server, *command.removeprefix("$ bootfw wake ").split()).output == f"{expected}\n"
        wait_for_packets(card, [magic_packet(bytes.fromhex(MAC.replace(":", "")))])


def test_a_card_behind_a_router_gets_the_packet_of_its_reservation(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("server", "10.77.0.1/24")
    router = lab.router("router", "10.77.0.2/24", "10.88.0.1/24")
    for sysctl in ("ip_forward=1", "conf.all.bc_forwarding=1", "conf.eth0.bc_forwarding=1"):
        key, value = sysctl.split("=")
        assert router.run("sysctl", "-q", "-w", f"net.ipv4.{key}={value}", seconds=60).exit_code == 0
    server.ip("route", "add", "10.88.0.0/24", "via", "10.77.0.2")
    (tmp_path / "bootfw.toml").write_text(
        '[dhcp]\nmode = "server"\n'
        '[[dhcp.subnet]]\nnetwork = "10.88.0.0/24"\nrelays = ["10.88.0.1"]\n'
        f'[[dhcp.subnet.host]]\nmac = "{MAC}"\naddress = "10.88.0.50"\n'
    )
    with lab.host("machine", segment="far").packet_socket() as card:
        result = wake(server, "-c", str(tmp_path / "bootfw.toml"), MAC)
        assert result.output == f"{MAC}: sent on eth0, to 10.88.0.255\n"
        wait_for_packets(card, [magic_packet(bytes.fromhex(MAC.replace(":", "")))])
