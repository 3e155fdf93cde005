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
from .rawdhcp import RawClients, Sent, message, option
from .seeding import ADDRESSES, SERVER, Scene
from .test_dhcp6_server import has_link_local
from .test_lenient_dhcp6 import CLIENT, REPLY, TIME, ia
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
GONE = "mkdir {0}/aside && mv {0}/bootfw.sqlite* {0}/aside/"


@define(eq=False)
class Clients:
    """Machines that take addresses by both versions of DHCP. Each machine comes once."""

    _host: Host
    server: bytes
    """Hardware address."""
    acknowledged: set[str] = field(factory=set, init=False)
    _number: int = field(default=0, init=False)

    def come(self) -> tuple[int, int]:
        """Some more of them; how many have got an IPv4 address, and how many an IPv6 address.

        Those that are offered none request none.
        """
        numbers = range(self._number, self._number + CLIENTS)
        self._number += CLIENTS
        four, six = self._by_ipv4(numbers), self._by_ipv6(numbers)
        self.acknowledged |= four | six
        return len(four), len(six)

    def _by_ipv4(self, numbers: range) -> set[str]:
        raw = RawClients.at(self._host, self.server)
        try:
            heard = raw.say(_sent(number, 0, option(53, bytes((DISCOVER,)))) for number in numbers)
            # An ACK of earlier machines may come late, when the store has answered.
            offers = {number: each for number, each in heard.items() if each.kind == OFFER}
            chosen = option(53, bytes((REQUEST,))) + option(54, SERVER)
            answers = raw.say(_sent(n, 1 << 16, chosen + option(50, each.address)) for n, each in offers.items())
        finally:
            raw.close()
        return {answer.address for answer in answers.values() if answer.kind == ACK}

    def _by_ipv6(self, numbers: range) -> set[str]:
        raw = RawClients6(self._host)
        try:
            heard = raw.say({str(n): (546, _message6(SOLICIT6, n, ia())) for n in numbers})
            offers = [data for data in heard if data[0] == ADVERTISE6]
            chosen = {}
            for data in offers:
                options = _options6(data)
                duid, found = options[CLIENT], options[3]
                wanted = option6(CLIENT, duid) + option6(SERVER6, options[SERVER6]) + option6(3, found) + TIME
                chosen[duid.hex()] = 546, bytes((REQUEST6,)) + data[1:4] + wanted
            heard = raw.say(chosen)
        finally:
            raw.close()
        # After the identity association's 12 bytes comes the option of its address.
        return {socket.inet_ntop(socket.AF_INET6, _options6(data)[3][16:32]) for data in heard if data[0] == REPLY}


def _sent(number: int, transaction: int, options: bytes) -> Sent:
    mac, xid = b"\x52\x54\0\1" + struct.pack("!H", number), transaction + number
    return Sent(data=message(options, xid=xid, mac=mac), xid=xid & 0xFFFF | transaction, mac=mac)


def _message6(kind: int, number: int, options: bytes) -> bytes:
    duid = b"\0\3\0\1\x52\x54\0\1" + struct.pack("!H", number)
    return bytes((kind,)) + number.to_bytes(3) + option6(CLIENT, duid) + options + TIME


def _options6(data: bytes) -> dict[int, bytes]:
    found, at = {}, 4
    while at < len(data):
        code, length = struct.unpack_from("!HH", data, at)
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    need("curl")
    made = Scene(lab, tmp_path)
    yield made
    made.close()


@pytest.fixture
def clients(scene: Scene) -> Clients:
    """Of a server with a small file system of its own for its state."""
    add_ipv6(scene)
    scene.serves("file", b"content")
    scene.starts(POOLS, mount=f"mount --make-rprivate / && mount -t tmpfs -o size=2m tmpfs {scene.state}")
    return Clients(scene.client, hardware_address(scene))


def add_ipv6(scene: Scene) -> None:
    """Give the server an address of the pool's network."""
    scene.server.ip("address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    hosts = scene.server, scene.client
    wait_until(lambda: all(map(has_link_local, hosts)), 30, "link-local addresses can be used")


def hardware_address(scene: Scene) -> bytes:
    shown = scene.server.run("cat", "/sys/class/net/eth0/address", seconds=30).output.strip()
    return bytes.fromhex(shown.replace(":", ""))


def serves(scene: Scene) -> None:
    for number, url in enumerate((f"tftp://{SERVER}/file", f"http://{SERVER}/file")):
        into = scene.directory / f"fetched-{number}"
        scene.gets(url, into=str(into))
        assert into.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("fault", "repair", "reason"),
    [
        (FULL, "rm {0}/fill {0}/rest", "bootfw.sqlite: database or disk is full"),
        (GONE, "mv {0}/aside/* {0}/", "bootfw.sqlite: it was moved or removed while bootfw uses it: put it back;"),
    ],
    ids=["full", "gone"],
)
def test_every_acknowledged_lease_is_stored(
    scene: Scene, clients: Clients, fault: str, repair: str, reason: str
) -> None:
    assert clients.come() == (CLIENTS, CLIENTS)
    scene.inside(fault.format(scene.state))
    waves = 0
    # What SQLite has room for without a new page is stored.
    while clients.come() != (0, 0):
        waves += 1
        assert waves < 10
    clients.come()
    serves(scene)
    text = scene.running.output
    unable = [line for line in text.splitlines() if "dhcp leases can't be stored" in line]
    assert len(unable) == 1, unable
    assert reason in unable[0]
    assert "Traceback" not in text

    scene.inside(repair.format(scene.state))
    assert clients.come() == (CLIENTS, CLIENTS)
    assert scene.running.output.count("dhcp leases are stored again") == 1

    # What a machine finds that was reset.
    scene.inside(f"kill -9 {scene.running.pid} && cp -r {scene.state} {scene.directory}/kept")
    scene.running.wait(60)
    file = StateFile.open(scene.directory / "kept" / "bootfw.sqlite")
    stored = {lease.address for lease in file.leases()}
    file.close()
    assert clients.acknowledged - stored == set()
    assert len(clients.acknowledged) >= 4 * CLIENTS


def test_proxy_with_a_read_only_state_directory_loses_only_its_records(scene: Scene) -> None:
    """And a server of addresses from its start, with a line that names the directory."""
    scene.serves("file", b"content")
    read_only = f"mount --make-rprivate / && mount -t tmpfs -o ro tmpfs {scene.state}"
    scene.starts('[dhcp]\nmode = "off"\n', silent=1, mount=read_only)
    serves(scene)
    scene.gets(f"http://{SERVER}/none")
    scene.running.wait_until(lambda: "boot attempts can't be stored" in scene.running.output, 60, "it says so")
    serves(scene)
    text = scene.running.output
    assert text.count("boot attempts can't be stored") == 1
    assert "Read-only file system" in text or re.search("unable to open database|readonly", text)
    assert "Traceback" not in text
    scene.running.stop()

    with pytest.raises(AssertionError, match="ended with 1"):
        scene.starts(ADDRESSES, mount=read_only)
    text = scene.running.output
    assert f"{scene.state}" in text
    assert "Read-only file system" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("how", ["down", "removed"])
def test_addresses_are_given_again_after_the_interface_was_gone(
    lab: Lab, scene: Scene, clients: Clients, how: str
) -> None:
    for _ in range(2):
        assert clients.come() == (CLIENTS, CLIENTS)
        if how == "removed":
            scene.server.ip("link", "delete", "eth0")
            lab.plug_again(scene.server, f"{SERVER}/24")
        else:
            scene.server.ip("link", "set", "eth0", "down")
            scene.server.ip("link", "set", "eth0", "up")
        scene.server.ip("address", "flush", "dev", "eth0", "scope", "global")
        scene.server.ip("address", "add", f"{SERVER}/24", "dev", "eth0")
        add_ipv6(scene)
        clients.server = hardware_address(scene)
        serves(scene)
    assert clients.come() == (CLIENTS, CLIENTS)
    assert "Traceback" not in scene.running.output
