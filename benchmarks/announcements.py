"""Counts the machine instructions that the announcements between nodes add to those of TFTP transfers.

``python benchmarks/announcements.py`` counts as ``benchmarks/instructions.py`` does, which it uses: a server that is
alone, one that announces its transfers by a PostgreSQL server of the tests, and one that hears as many announcements
of another node too. Each announcement is a statement and transaction of its own here; while the database is busy,
several wait and become one. Instructions of the kernel and of PostgreSQL are not counted.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instructions import BLKSIZE, HERE, Publish, measure
from instructions import serve as serve_files
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bootfw.interfaces import INodes

PLUGIN = HERE.parent / "plugins/bootfw-postgresql"
SMALL, SIZES = 30_000, (1_000_000, 5_000_000, 100_000_000)
FILE, PACKET = "file of 30 kB", "packet"


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--announce", metavar="CONNINFO", help=argparse.SUPPRESS)
    options.add_argument("--hear", metavar="CONNINFO", help=argparse.SUPPRESS)
    options.add_argument("root", nargs="?", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    sys.path[:0] = [str(PLUGIN), str(PLUGIN / "tests")]
    if arguments.root:
        hears = arguments.hear is not None
        serve_files(arguments.root, lambda reactor, publish: node(reactor, publish, arguments, hears=hears))
        return 0
    from postgresserver import Server

    with tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch:
        Path(scratch).chmod(0o755)  # PostgreSQL runs as another user
        directory = Path(scratch) / "database"
        directory.mkdir()
        database = Server.make(directory)
        database.start()
        try:
            program, conninfo = str(HERE / "announcements.py"), f"host={directory} user=postgres dbname=postgres"
            alone = measure([PACKET, FILE])
            announced = measure([FILE], program, "--announce", conninfo)[FILE] - alone[FILE]
            heard = measure([FILE], program, "--hear", conninfo)[FILE] - alone[FILE] - announced
        finally:
            database.stop()
    print(f"{SMALL:>11,} bytes: {alone[FILE]:8.3f} yardsticks; announced: {announced:.3f}; heard: {heard:.3f}")
    for size in SIZES:
        transfer = alone[FILE] + alone[PACKET] * (size - SMALL) / BLKSIZE
        shares = [
            f"{(announced + other_nodes * heard) / transfer:.2%} with {other_nodes + 1} nodes" for other_nodes in (1, 2)
        ]
        print(f"{size:>11,} bytes: {transfer:8.2f} yardsticks and {announced / transfer:.2%}; {', '.join(shares)}")
    return 0


@implementer(INodes)
class Statements:
    """Announces as bootfw_postgresql.announcements does, without threads.

    :param hears: the announcements come back as those of another node, whose clients have another address.
    """

    behind = 0.0

    def __init__(self, conninfo: str, *, hears: bool) -> None:
        from bootfw_postgresql.announcements import Announcements
        from bootfw_postgresql.database import Database

        self._sender = Announcements(None, Database(conninfo, "bootfw"), lambda kind, values: None)
        self._hears = hears
        self._receive: Callable[[str, Sequence[object]], None] = lambda kind, values: None

    def join_nodes(self, receive: Callable[[str, Sequence[object]], None]) -> "Callable[[], Deferred[None]]":
        """See INodes."""
        self._receive = receive
        return lambda: succeed(None)

    def announce(self, kind: str, *values: object) -> None:
        """See INodes."""
        self._sender.announce(kind, values)
        if self._hears:
            # To encode it once more is counted too, though the other node has done that.
            payload = json.dumps([kind, *values], separators=(",", ":")).replace('"127.0.0.1"', '"127.0.0.9"')
            kind, node, *items = json.loads(payload)
            self._receive(kind, [f"not {node}", *items])


def node(reactor: Any, publish: Publish, arguments: argparse.Namespace, *, hears: bool) -> Publish:
    """Have transfers announced; returns what takes their events."""
    from bootfw.net.nodes.announcements import Announcements
    from bootfw.net.nodes.node import Node
    from bootfw.net.tftp.handover import AdoptedTransfers

    adopted_transfers = AdoptedTransfers(reactor, publish)

    def send(kind: str, values: tuple[Any, ...]) -> None:
        assert kind == "elsewhere"
        adopted_transfers.announced(*values)

    nodes = Statements(arguments.hear or arguments.announce, hears=hears)
    cluster_node = Node(reactor, Announcements(nodes), send, lambda events: None, list)
    cluster_node.start()

    def publish_and_announce(event: Any) -> None:
        cluster_node.publish(event)
        publish(event)

    return publish_and_announce


if __name__ == "__main__":
    raise SystemExit(main())
