"""Three nodes and a real PostgreSQL: the leader dies, is stopped, or is cut off, and another one takes its place.

``pytest -m firmware tests/interop/test_takeover.py`` does 200 rounds.
"""

import select
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field

from .cluster import SECONDS, Cluster, Node, cluster_of
from .lab import Lab, wait_until
from .rawdhcp import Datagram, message, option

pytestmark = pytest.mark.interop

DHCP = """
[dhcp]
mode = "server"
probe-seconds = 0
new-clients-per-second = 0
[[dhcp.subnet]]
network = "10.77.0.0/16"
pool = ["10.77.4.0-10.77.60.255"]
rapid-commit = true
"""
DISCOVER, OFFER, REQUEST, ACK, RAPID_COMMIT, SERVER_ID = 1, 2, 3, 5, 80, 54

PATIENCE = 12.0
"""Seconds until a takeover has failed. It takes three at most, but other tests keep the cores busy."""


@define(eq=False)
class Clients:
    """New clients, one after the other, which take an address by one exchange (RFC 4039)."""

    socket: socket.socket
    leases: dict[str, int] = field(factory=dict)
    """Address -> the client that has it."""
    server_identifiers: dict[int, str] = field(factory=dict)
    """Client -> the server identifier of its latest ACK."""
    _number: int = 0
    _offered: str = ""
    """The address that was offered to the latest client."""

    def take_address(self, seconds: float = 0.05) -> str:
        """A new client asks for an address once: the address of the server that gives it one; "": none does in time."""
        self._number += 1
        return self._exchange(option(53, bytes((DISCOVER,))) + option(RAPID_COMMIT, b""), seconds)

    def request_offer(self) -> bool:
        """A new client asks for an offer, which it does not take yet."""
        self._number += 1
        self._offered = ""
        self._exchange(option(53, bytes((DISCOVER,))), 1.0)
        return bool(self._offered)

    def select_offer(self, server: str, seconds: float = 0.05) -> str:
        """The latest client takes its offer, of *server*: the address of the one that gives it; "": none in time."""
        server_address = self._exchange(
            option(53, bytes((REQUEST,))) + option(50, self._offered) + option(SERVER_ID, server), seconds
        )
        assert not server_address or self.server_identifiers[self._number] == server  # clients ignore any other
        return server_address

    def _exchange(self, options: bytes, seconds: float) -> str:
        mac = b"\x52\x54" + struct.pack("!I", self._number)
        data = message(options, xid=self._number, mac=mac)
        self.socket.send(Datagram(data=data, xid=self._number, mac=mac).frame(b"\xff" * 6))
        deadline = time.monotonic() + seconds
        server = ""
        while not server and select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            server = self._handle_frame(self.socket.recv(65535))
        return server

    def _handle_frame(self, frame: bytes) -> str:
        """Take a frame; the sender, if it is an ACK for the latest client."""
        if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[34:36] != b"\0\x43" or frame[42] != 2:
            return ""
        reply = frame[42:]
        options = _options(reply[240:])
        number, address = int.from_bytes(reply[4:8], "big"), socket.inet_ntoa(reply[16:20])
        if options.get(53) == bytes((OFFER,)) and number == self._number:
            self._offered = address
        if options.get(53) != bytes((ACK,)):
            return ""
        assert self.leases.setdefault(address, number) == number, f"{address} is given twice"
        self.server_identifiers[number] = socket.inet_ntoa(options[SERVER_ID])
        return socket.inet_ntoa(frame[26:30]) if number == self._number else ""


def _options(data: bytes) -> dict[int, bytes]:
    options, position = {}, 0
    while position + 1 < len(data) and data[position] != 255:
        if data[position] == 0:
            position += 1
            continue
        options[data[position]] = data[position + 2 : position + 2 + data[position + 1]]
        position += 2 + data[position + 1]
    return options


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as cluster:
        cluster.start(DHCP)
        yield cluster


def repair(cluster: Cluster, node: Node, fault: str) -> None:
    """The node is as it was, and a standby."""
    if fault == "killed":
        node.start()
    elif fault == "stopped":
        node.resume()
    elif fault == "unplugged":
        node.plug_in()
    else:
        cluster.stop_dropping()


def is_ready(node: Node) -> bool:
    return bool(node.status()["ready"])


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.firmware)])
def test_another_node_takes_the_place_of_the_leader(cluster: Cluster, rounds: int) -> None:
    """No address is given twice, and no acknowledged lease is lost."""
    clients = Clients(cluster.lab.host("station", "10.77.0.9/24").packet_socket())
    nodes = {node.address: node for node in cluster.nodes}
    gaps: dict[str, list[float]] = {}
    for number in range(rounds):
        leader = nodes[wait_until(lambda: clients.take_address(1.0), SECONDS, "a node leads")]
        for _ in range(10):
            assert clients.take_address(SECONDS) == leader.address
        wait_until(clients.request_offer, SECONDS, "an offer")
        faults = {
            "killed": leader.kill,
            "stopped": leader.pause,
            "cut off": leader.cut_database,
            "unplugged": leader.unplug,
        }
        fault = list(faults)[number % len(faults)]
        faults[fault]()
        began = time.monotonic()
        server = leader.address
        while server in ("", leader.address):
            assert time.monotonic() - began < PATIENCE, f"nobody leads after one was {fault}"
            server = clients.select_offer(leader.address)
        gaps.setdefault(fault, []).append(time.monotonic() - began)
        for _ in range(10):
            assert clients.take_address(SECONDS) == server
        repair(cluster, leader, fault)
        wait_until(partial(is_ready, leader), SECONDS, "the node serves again")
        for _ in range(10):
            assert clients.take_address(SECONDS) == server  # and the earlier leader does not answer beside
    print({fault: [round(gap, 2) for gap in durations] for fault, durations in gaps.items()})
    with cluster.server.connect(dbname="bootfw") as connection:
        rows = connection.execute("SELECT host(address), mac FROM bootfw.lease").fetchall()
    stored_leases = {address: int.from_bytes(bytes.fromhex(mac.replace(":", ""))[2:], "big") for address, mac in rows}
    assert clients.leases.items() <= stored_leases.items()
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output
