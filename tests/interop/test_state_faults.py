"""The state directory fills up or is gone while the server runs: files are served, and no lease is acknowledged that
is not stored."""

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field

from bootfw.stores.statefile import StateFile

from .lab import Host, Lab, need, wait_until
from .rawdhcp import Datagram, RawClients, message, option
from .seeding import ADDRESSES, SERVER, Scene
from .test_dhcp6_server import has_link_local
from .test_lenient_dhcp6 import CLIENT, ELAPSED_TIME, REPLY, ia
from .test_lenient_dhcp6 import SERVER as SERVER6
from .test_lenient_dhcp6 import RawClients as RawClients6
from .test_lenient_dhcp6 import option as option6

pytestmark = pytest.mark.interop

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
SOLICIT6, REQUEST6, ADVERTISE6 = 1, 3, 2
CLIENTS = 8

POOLS = ADDRESSES.replace("10.77.0.110", "10.77.0.250") + (
    """
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::1000-fd77::1fff"]
"""
)

FULL = "dd if=/dev/zero of={0}/fill bs=4k 2>/dev/null; dd if=/dev/zero of={0}/rest bs=64 2>/dev/null; true"
MOVED_AWAY = "mkdir {0}/aside && mv {0}/bootfw.sqlite* {0}/aside/"


@define(eq=False)
class Clients:
    """Machines that take addresses by both versions of DHCP. Each machine comes once."""

    _host: Host
    server: bytes
    """Hardware address."""
    acknowledged: set[str] = field(factory=set, init=False)
    _number: int = field(default=0, init=False)

    def request_addresses(self) -> tuple[int, int]:
        """Some more of them; how many have got an IPv4 address, and how many an IPv6 address.

        Those that are offered none request none.
        """
        numbers = range(self._number, self._number + CLIENTS)
        self._number += CLIENTS
        ipv4_addresses, ipv6_addresses = self._by_ipv4(numbers), self._by_ipv6(numbers)
        self.acknowledged |= ipv4_addresses | ipv6_addresses
        return len(ipv4_addresses), len(ipv6_addresses)

    def _by_ipv4(self, numbers: range) -> set[str]:
        raw_clients = RawClients.on_host(self._host, self.server)
        try:
            replies = raw_clients.exchange(_datagram(number, 0, option(53, bytes((DISCOVER,)))) for number in numbers)
            # An ACK of earlier machines may come late, when the store has answered.
            offers = {number: reply for number, reply in replies.items() if reply.message_type == OFFER}
            selection = option(53, bytes((REQUEST,))) + option(54, SERVER)
            acknowledgements = raw_clients.exchange(
                _datagram(number, 1 << 16, selection + option(50, reply.address)) for number, reply in offers.items()
            )
        finally:
            raw_clients.close()
        return {reply.address for reply in acknowledgements.values() if reply.message_type == ACK}

    def _by_ipv6(self, numbers: range) -> set[str]:
        raw_clients = RawClients6(self._host)
        try:
            replies = raw_clients.exchange(
                {str(number): (546, _message6(SOLICIT6, number, ia())) for number in numbers}
            )
            offers = [data for data in replies if data[0] == ADVERTISE6]
            requests = {}
            for data in offers:
                options = _options6(data)
                duid, association = options[CLIENT], options[3]
                request_options = (
                    option6(CLIENT, duid) + option6(SERVER6, options[SERVER6]) + option6(3, association) + ELAPSED_TIME
                )
                requests[duid.hex()] = 546, bytes((REQUEST6,)) + data[1:4] + request_options
            replies = raw_clients.exchange(requests)
        finally:
            raw_clients.close()
        # After the identity association's 12 bytes comes the option of its address.
        return {socket.inet_ntop(socket.AF_INET6, _options6(data)[3][16:32]) for data in replies if data[0] == REPLY}


def _datagram(number: int, transaction: int, options: bytes) -> Datagram:
    mac, xid = b"\x52\x54\0\1" + struct.pack("!H", number), transaction + number
    return Datagram(data=message(options, xid=xid, mac=mac), xid=xid & 0xFFFF | transaction, mac=mac)


def _message6(message_type: int, number: int, options: bytes) -> bytes:
    duid = b"\0\3\0\1\x52\x54\0\1" + struct.pack("!H", number)
    return bytes((message_type,)) + number.to_bytes(3) + option6(CLIENT, duid) + options + ELAPSED_TIME


def _options6(data: bytes) -> dict[int, bytes]:
    options, position = {}, 4
    while position < len(data):
        code, length = struct.unpack_from("!HH", data, position)
        options[code] = data[position + 4 : position + 4 + length]
        position += 4 + length
    return options


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    need("curl")
    scene = Scene(lab, tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def clients(scene: Scene) -> Clients:
    """Of a server with a small file system of its own for its state."""
    add_ipv6(scene)
    scene.add_file("file", b"content")
    scene.start_server(POOLS, mount=f"mount --make-rprivate / && mount -t tmpfs -o size=2m tmpfs {scene.state}")
    return Clients(scene.client, hardware_address(scene))


def add_ipv6(scene: Scene) -> None:
    """Give the server an address of the pool's network."""
    scene.server.ip("address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    both_hosts = scene.server, scene.client
    wait_until(lambda: all(map(has_link_local, both_hosts)), 30, "link-local addresses can be used")


def hardware_address(scene: Scene) -> bytes:
    address = scene.server.run("cat", "/sys/class/net/eth0/address", seconds=30).output.strip()
    return bytes.fromhex(address.replace(":", ""))


def assert_file_is_served(scene: Scene) -> None:
    for number, url in enumerate((f"tftp://{SERVER}/file", f"http://{SERVER}/file")):
        destination = scene.directory / f"fetched-{number}"
        scene.fetch(url, output=str(destination))
        assert destination.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("fault", "repair", "reason"),
    [
        (FULL, "rm {0}/fill {0}/rest", "bootfw.sqlite: database or disk is full"),
        (
            MOVED_AWAY,
            "mv {0}/aside/* {0}/",
            "bootfw.sqlite: it was moved or removed while bootfw uses it: put it back;",
        ),
    ],
    ids=["full", "gone"],
)
def test_every_acknowledged_lease_is_stored(
    scene: Scene, clients: Clients, fault: str, repair: str, reason: str
) -> None:
    assert clients.request_addresses() == (CLIENTS, CLIENTS)
    scene.run_in_server_mounts(fault.format(scene.state))
    rounds = 0
    # What SQLite has room for without a new page is stored.
    while clients.request_addresses() != (0, 0):
        rounds += 1
        assert rounds < 10
    clients.request_addresses()
    assert_file_is_served(scene)
    log = scene.program.output
    lines = [line for line in log.splitlines() if "dhcp leases can't be stored" in line]
    assert len(lines) == 1, lines
    assert reason in lines[0]
    assert "Traceback" not in log

    scene.run_in_server_mounts(repair.format(scene.state))
    assert clients.request_addresses() == (CLIENTS, CLIENTS)
    assert scene.program.output.count("dhcp leases are stored again") == 1

    # What a machine finds that was reset.
    scene.run_in_server_mounts(f"kill -9 {scene.program.pid} && cp -r {scene.state} {scene.directory}/kept")
    scene.program.wait(60)
    state_file = StateFile.open(scene.directory / "kept" / "bootfw.sqlite")
    stored = {lease.address for lease in state_file.leases()}
    state_file.close()
    assert clients.acknowledged - stored == set()
    assert len(clients.acknowledged) >= 4 * CLIENTS


def test_proxy_with_a_read_only_state_directory_loses_only_its_records(scene: Scene) -> None:
    """And a server of addresses from its start, with a line that names the directory."""
    scene.add_file("file", b"content")
    read_only = f"mount --make-rprivate / && mount -t tmpfs -o ro tmpfs {scene.state}"
    scene.start_server('[dhcp]\nmode = "off"\n', silent=1, mount=read_only)
    assert_file_is_served(scene)
    scene.fetch(f"http://{SERVER}/none")
    scene.program.wait_until(lambda: "boot attempts can't be stored" in scene.program.output, 60, "it says so")
    assert_file_is_served(scene)
    log = scene.program.output
    assert log.count("boot attempts can't be stored") == 1
    assert "Read-only file system" in log or re.search("unable to open database|readonly", log)
    assert "Traceback" not in log
    scene.program.stop()

    with pytest.raises(AssertionError, match="ended with 1"):
        scene.start_server(ADDRESSES, mount=read_only)
    log = scene.program.output
    assert f"{scene.state}" in log
    assert "Read-only file system" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("fault", ["down", "removed"])
def test_addresses_are_given_again_after_the_interface_was_gone(
    lab: Lab, scene: Scene, clients: Clients, fault: str
) -> None:
    for _ in range(2):
        assert clients.request_addresses() == (CLIENTS, CLIENTS)
        if fault == "removed":
            scene.server.ip("link", "delete", "eth0")
            lab.plug_again(scene.server, f"{SERVER}/24")
        else:
            scene.server.ip("link", "set", "eth0", "down")
            scene.server.ip("link", "set", "eth0", "up")
        scene.server.ip("address", "flush", "dev", "eth0", "scope", "global")
        scene.server.ip("address", "add", f"{SERVER}/24", "dev", "eth0")
        add_ipv6(scene)
        clients.server = hardware_address(scene)
        assert_file_is_served(scene)
    assert clients.request_addresses() == (CLIENTS, CLIENTS)
    assert "Traceback" not in scene.program.output
