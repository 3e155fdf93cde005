"""A client whose packets arrive at any node, while announcements get lost, files change and nodes stop, in any order.

Whatever happens, each block that the client receives has the octets of the file that it has requested.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tftpserver import numbered

import bootfw.boot.etag
from bootfw.testing import FakePeer
from bootfw.wire import tftp

from .test_nodes import LONG_AGO, Nodes, request

SIZE = 1000
VERSIONS = [numbered(5400), numbered(6300)[900:], numbered(4500)]
"""Contents of the file: the second one has the size of the first, the third one its beginning."""
NODES = 3
ANYWHERE = st.integers(0, NODES - 1)


class Transfers(RuleBasedStateMachine):
    """The transfers of one client from several nodes."""

    def __init__(self) -> None:
        super().__init__()
        self._settled, bootfw.boot.etag.SETTLED = bootfw.boot.etag.SETTLED, -1.0
        self._directory = TemporaryDirectory()
        self.nodes = Nodes(Path(self._directory.name))
        self.members = [self.nodes.start() for _ in range(NODES)]
        self.versions = [0] * NODES
        """The index in VERSIONS of the file at each node."""
        for node in range(NODES):
            self.put(node, 0)
        self.client: FakePeer | None = None
        """It has a port of its own for each transfer; None: there is no transfer."""
        self.version = 0
        """The index in VERSIONS of the file that the client has requested."""
        self.acked = 0

    def teardown(self) -> None:
        self.nodes.close()
        self._directory.cleanup()
        bootfw.boot.etag.SETTLED = self._settled

    def put(self, node: int, version: int) -> None:
        """Put the file in place as rsync does."""
        root = self.members[node].root
        (root / "new").write_bytes(VERSIONS[version])
        os.utime(root / "new", (LONG_AGO + version, LONG_AGO + version))
        (root / "new").rename(root / "file")
        self.versions[node] = version

    @rule(node=ANYWHERE)
    def begin_transfer(self, node: int) -> None:
        if self.client is not None:
            self.client.close()
        self.client = FakePeer(self.nodes.network.hosts[0])
        self.version, self.acked = self.versions[node], 0
        self.client.send(request(("blksize", str(SIZE))), self.members[node].address)
        self.nodes.network.advance(0.01)

    @precondition(lambda self: self.client is not None)
    @rule(node=ANYWHERE, delivers=st.booleans())
    def acknowledge(self, node: int, delivers: bool) -> None:
        """:param delivers: announcements are delivered then."""
        assert self.client is not None
        self.client.send(tftp.ack(self.acked), self.members[node].address)
        self.nodes.network.advance(0.01)
        if delivers:
            self.nodes.settle()

    @rule()
    def deliver_announcements(self) -> None:
        self.nodes.settle()

    @rule(lost=st.booleans())
    def lose_announcements(self, lost: bool) -> None:
        """Lose the announcements from now on, or carry them."""
        self.nodes.cluster.lost = lost

    @rule(node=ANYWHERE, version=st.integers(0, len(VERSIONS) - 1))
    def change_file(self, node: int, version: int) -> None:
        self.put(node, version)

    @rule(node=ANYWHERE)
    def restart_node(self, node: int) -> None:
        self.members[node].service.stopService()
        self.nodes.settle()
        self.members[node].service.startService()
        self.nodes.settle()

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.nodes.network.advance(seconds)

    @invariant()
    def no_octet_is_wrong(self) -> None:
        if self.client is None:
            return
        for answer in self.client.take():
            kind, number, data = answer.data[1], int.from_bytes(answer.data[2:4], "big"), answer.data[4:]
            if kind == 5:  # ERROR: the client gives up, or begins anew
                self.client.close()
                self.client = None
                return
            if kind == 3:
                content = VERSIONS[self.version]
                assert data == content[(number - 1) * SIZE : number * SIZE], (number, self.version, answer.peer)
                if number == self.acked + 1:
                    self.acked = number


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
