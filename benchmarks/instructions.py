"""Measures the machine instructions of a packet, a request and an exchange; the result is the same on a busy machine.

``python benchmarks/instructions.py`` runs the real ports, protocols, session, backend, log and watchdog under valgrind
(Debian: valgrind) and counts the instructions of the server process, without those of the kernel. A count depends on
how Python was compiled, so it is divided by the instructions of a fixed piece of Python code in the same interpreter,
the *yardstick*. ``benchmarks/instructions.json`` has the last recorded counts; ``--record`` writes it, and
``tests/test_instructions.py`` fails if one has grown by more than a tenth.
"""

import argparse
import gc
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bootfw.wire import dhcp4
from bootfw.wire.options import Option, RelaySuboption, address_bytes, encapsulate

Publish = Callable[[Any], None]

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "instructions.json"
AT_ONCE = 50
BLKSIZE = 1408
TOLERATED = 1.1

# What is done, and how often: so many rounds more than none are what it costs.
WORK = {
    "yardstick": 200,
    "packet": 40,
    "single packet": 1000,
    "file of 30 kB": 3,
    "missing file": 10,
    "DHCP exchange": 5,
}
FIRST = 3
"""Rounds of all work before anything is counted: what is imported, cached or compiled at first use is there then."""
IDLE = 600
"""Seconds after them: the timers of transfers and requests that have ended have run out."""

UNIT = {"packet": AT_ONCE, "file of 30 kB": AT_ONCE, "missing file": AT_ONCE, "DHCP exchange": AT_ONCE}
"""How many of what is counted make one round."""


def measure(names: list[str], *program: str) -> dict[str, float]:
    """Yardsticks that each of *names* costs.

    :param program: words of the program that is counted, for Python; it gets a directory too. None: this one.
    """
    yardstick, *costs = _count(["yardstick", *names], program or ("-P", str(HERE / "instructions.py"), "--serve"))
    unit = yardstick / WORK["yardstick"]
    return {name: cost / WORK[name] / UNIT.get(name, 1) / unit for name, cost in zip(names, costs, strict=True)}


def _count(names: list[str], program: tuple[str, ...]) -> list[int]:
    """Count the instructions of a server for the rounds of each of *names*.

    The server has done some of all work when it forks twice for each name: once for the rounds, and once for none of
    them, with what begins and ends them. So Python starts only once, and the two differ in nothing else.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        content = root / "30000"
        content.write_bytes(bytes(30_000))
        (root / "big").write_bytes(bytes(20_000_000))
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        command += [f"--log-file={root}/counted-%p"]
        command += [sys.executable, *program, scratch]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            load = Load(server.stdin, server.stdout)
            for name in WORK:
                load.do(name, FIRST)
            load.command(f"wait {IDLE}")
            pids = []
            for name in names:
                for rounds in (0, WORK[name]):
                    pids.append(load.command("fork 0"))
                    load.do(name, rounds)
                    load.command("end 0")
            load.close()
            server.stdin.close()
        counts = [_instructions((root / f"counted-{pid}").read_text()) for pid in pids]
    return [all_rounds - none for none, all_rounds in zip(counts[::2], counts[1::2], strict=True)]


def _instructions(log: str) -> int:
    """What cachegrind counted."""
    match = re.search(r"I +refs: +([\d,]+)", log)
    if match is None:
        raise RuntimeError(f"valgrind has counted nothing:\n{log}")
    return int(match[1].replace(",", ""))


class Load:
    """The clients. They are not counted, and nothing is under way while the server works."""

    def __init__(self, commands: Any, answers: Any) -> None:
        self._commands = commands
        self._answers = answers
        self._server, self._dhcp_server = (("127.0.0.1", int(port)) for port in answers.readline().split())
        self._sockets: list[socket.socket] = []
        self._clients = 0

    def do(self, name: str, rounds: int) -> None:
        """Have the server do *name*."""
        if name == "yardstick":
            self.command(f"yardstick {rounds}")
        elif name == "packet":
            self._lock_step(AT_ONCE, rounds)
        elif name == "single packet":
            self._lock_step(1, rounds)
        elif name == "DHCP exchange":
            self._exchanges(rounds)
        else:
            for _ in range(rounds):
                self._files("30000" if name.startswith("file") else "missing")

    def close(self) -> None:
        """End."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def command(self, words: str) -> str:
        """Have the server do it; returns its answer when it is done."""
        self._commands.write(words + "\n")
        self._commands.flush()
        return str(self._answers.readline()).strip()

    def _request(self, count: int, filename: str) -> list[socket.socket]:
        request = b"\0\1" + filename.encode() + b"\0octet\0blksize\0%d\0" % BLKSIZE
        sockets = []
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.connect(self._server)
            sock.settimeout(10)
            sock.send(request)
            sockets.append(sock)
        self.command(f"read {count}")
        return sockets

    def _acknowledge(self, sockets: list[socket.socket]) -> bytes:
        for sock in sockets:
            data = sock.recv(2048)
            sock.send(b"\0\4" + (data[2:4] if data[1] == 3 else b"\0\0"))
        self.command(f"read {len(sockets)}")
        return data

    def _lock_step(self, at_once: int, rounds: int) -> None:
        sockets = self._request(at_once, "big")
        for _ in range(rounds + 5):
            self._acknowledge(sockets)
        for sock in sockets:
            sock.send(b"\0\5\0\0enough\0")
        self.command(f"read {at_once}")
        self._sockets += sockets  # a port that is used again would find its transfer

    def _files(self, filename: str) -> None:
        sockets = self._request(AT_ONCE, filename)
        if filename != "missing":
            while True:
                data = self._acknowledge(sockets)
                if data[1] == 3 and len(data) < BLKSIZE + 4:
                    break
        self._sockets += sockets

    def _exchanges(self, rounds: int) -> None:
        """What perfdhcp does: DISCOVER to ACK behind a relay, each time by clients that have not been here."""
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        relay.bind(("127.0.0.1", 0))
        relay.connect(self._dhcp_server)
        relay.settimeout(10)
        self._sockets.append(relay)
        for _ in range(rounds):
            self._clients += AT_ONCE
            macs = [b"\2\0" + number.to_bytes(4, "big") for number in range(self._clients - AT_ONCE, self._clients)]
            for mac in macs:
                relay.send(dhcp_request(mac, {Option.MESSAGE_TYPE: b"\1"}))
            self.command(f"dhcp {AT_ONCE}")
            for mac in macs:
                offer = dhcp4.parse(relay.recv(2048))
                server_identifier = {Option.SERVER_IDENTIFIER: offer.options[Option.SERVER_IDENTIFIER]}
                requested_address = {Option.REQUESTED_IP_ADDRESS: address_bytes(offer.yiaddr)}
                relay.send(dhcp_request(mac, {Option.MESSAGE_TYPE: b"\3"} | server_identifier | requested_address))
            self.command(f"dhcp {AT_ONCE}")
            for _ in macs:
                assert dhcp4.parse(relay.recv(2048)).message_type is dhcp4.MessageType.ACK


def dhcp_request(mac: bytes, options: Mapping[Option, bytes]) -> bytes:
    """A message of a client behind a relay that says which port its answer goes to (RFC 8357)."""
    all_options: dict[int, bytes] = {
        **{int(code): value for code, value in options.items()},
        Option.PARAMETER_REQUEST_LIST: bytes((1, 28, 2, 3, 15, 6, 12)),
        Option.RELAY_AGENT_INFORMATION: encapsulate({RelaySuboption.RELAY_SOURCE_PORT: bytes(2)}, end=False),
    }
    xid = int.from_bytes(mac[2:])
    return dhcp4.pack(dhcp4.Message(op=1, hops=1, xid=xid, giaddr="127.0.0.1", chaddr=mac, options=all_options))


def serve(root: str, announcing: Callable[[Any, Publish], Publish] | None = None) -> None:
    """The counted program: it does what standard input says, and nothing else.

    :param announcing: takes the reactor and what takes the events, and returns what takes them instead.
    """
    from twisted.internet.task import Clock
    from twisted.logger import globalLogBeginner
    from zope.interface import implementer

    from bootfw import readers
    from bootfw.backends.directory import DirectoryBackend
    from bootfw.backends.openat2 import walk
    from bootfw.boot.backends import LayeredBackend
    from bootfw.boot.flightrecorder import FlightRecorder
    from bootfw.boot.resolverchain import ResolverChain
    from bootfw.dhcp.server import AddressServer
    from bootfw.dhcp.subnet import Subnet
    from bootfw.interfaces import IBootFileResolver
    from bootfw.net.dhcp.ipv4 import IPv4
    from bootfw.net.dhcp.journal import Journal
    from bootfw.net.dhcp.server4 import Server4
    from bootfw.net.dhcp.services import DHCPServices
    from bootfw.net.tftp.framecache import FrameCache
    from bootfw.net.tftp.listener import TFTPProtocol
    from bootfw.net.udp.port import DatagramPort
    from bootfw.observe.log import LogObserver
    from bootfw.observe.logoutput import LinesLog
    from bootfw.observe.logtext import as_text
    from bootfw.observe.publisher import Publisher
    from bootfw.stores.memory import MemoryStore
    from bootfw.watchdogs.adaptive import Adaptive

    class Reactor(Clock):
        """The port is read by hand."""

        def addReader(self, reader: Any) -> None:
            """Nothing waits."""

        removeReader = addReader

    @implementer(IBootFileResolver)
    class NoFile:
        """A resolver without boot files: with a resolver, the server classifies boot clients."""

        def resolve(self, request: Any) -> None:
            """See IBootFileResolver."""

    readers._TICK = -1  # the files have just been made
    devnull = open(os.devnull, "w")  # noqa: SIM115
    globalLogBeginner.beginLoggingTo([LinesLog(devnull, as_text)], redirectStandardIO=False)
    reactor = Reactor()
    publisher = Publisher(reactor, [("log", LogObserver())])
    # valgrind does not know openat2(2) before version 3.20.
    backend = LayeredBackend([("directory", DirectoryBackend(root, resolve=walk))])
    recorder = FlightRecorder()
    publish = publisher.publish if announcing is None else announcing(reactor, publisher.publish)
    protocol = TFTPProtocol(
        reactor,
        backend,
        Adaptive(),
        publish,
        frame_cache=FrameCache(1 << 28),
        recorder=recorder,
        tags_files=announcing is not None,
    )
    port = DatagramPort(reactor, protocol, "0.0.0.0", 0)
    subnet = Subnet(network="10.77.0.0/16", pool=("10.77.1.0-10.77.255.250",), relays=("127.0.0.1",))
    addresses = Server4(
        DHCPServices(
            reactor,
            ResolverChain(reactor, [("no-file", NoFile())], publisher.publish, 1.0),
            publisher.publish,
            recorder=recorder,
        ),
        IPv4(),
        AddressServer([subnet]),
        Journal(MemoryStore(), publisher.publish, reactor),
    )
    dhcp_port = DatagramPort(reactor, addresses, "127.0.0.1", 0)
    for udp_port in (port, dhcp_port):
        udp_port.startListening()
    sys.stdout.write(f"{port.getHost().port} {dhcp_port.getHost().port}\n")
    sys.stdout.flush()
    gc.freeze()  # as bootfw.tap.Daemon does
    for line in sys.stdin:
        command, number = line.split()
        answer = "done"
        if command == "fork":
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            else:
                answer = str(os.getpid())
        elif command == "end":
            os._exit(0)
        elif command == "yardstick":
            yardstick(int(number))
        elif command == "wait":
            reactor.advance(int(number))
        else:
            receiver = dhcp_port if command == "dhcp" else port
            target = receiver.counters.received + int(number)
            while receiver.counters.received < target:
                receiver.doRead()
            reactor.advance(0.0005)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


class Thing:
    """A part of the yardstick."""

    __slots__ = ("number", "text")

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = ""

    def doubled(self, more: int) -> int:
        """Some arithmetic behind a call."""
        self.number += more
        return self.number * 2


def yardstick(rounds: int) -> None:
    """What Python programs are made of: calls, attributes, dictionaries, lists, texts and bytes."""
    things = {number: Thing(number) for number in range(64)}
    for _ in range(rounds):
        found = []
        for number in range(64):
            thing = things.get(number)
            if thing is not None and thing.doubled(number) & 1 == 0:
                thing.text = f"{number}: {thing.number & 0xFF}"
                found.append((number, thing.text, thing.text.encode()[:2]))
        b"".join([data for _, _, data in found])


def main() -> int:
    """Print the table; 1: something has grown."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--serve", help=argparse.SUPPRESS)
    options.add_argument("--record", action="store_true", help="keep the figures as those to be compared with")
    arguments = options.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return 0
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    version = "{}.{}".format(*sys.version_info)
    figures = measure([name for name in WORK if name != "yardstick"])
    before = recorded.get(version, {})
    for name, figure in figures.items():
        change = f"{figure / before[name] - 1:+.1%}" if name in before else "new"
        sys.stdout.write(f"{name:16} {figure:8.3f} yardsticks {change:>8}\n")
    if arguments.record:
        recorded[version] = {name: round(figure, 4) for name, figure in figures.items()}
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
        return 0
    return int(any(figure > before.get(name, figure) * TOLERATED for name, figure in figures.items()))


if __name__ == "__main__":
    raise SystemExit(main())
