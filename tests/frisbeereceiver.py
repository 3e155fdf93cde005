"""A receiver of images by frisbee's protocol, without sockets and time: it requests one chunk after the other."""

from attrs import define, field

from bootfw.wire import frisbee
from bootfw.wire.frisbee import BLOCK_SIZE, CHUNK_BLOCKS, Block, Join, Join2Reply, Leave, PartialRequest, Request

CLIENT = 0xBEEF


@define(eq=False)
class FrisbeeReceiver:
    """Collects an image. ``out`` has the datagrams that it sends."""

    address: str
    out: list[bytes] = field(factory=list, init=False)
    size: int | None = field(default=None, init=False)
    blocks: dict[tuple[int, int], bytes] = field(factory=dict, init=False)
    """(chunk, block) -> its bytes."""
    received: dict[int, int] = field(factory=dict, init=False)
    """Chunk -> the blocks of it that have come, a bit for each."""
    repeated: int = field(default=0, init=False)
    """How many blocks came again."""
    servers: set[str] = field(factory=set, init=False)
    """The addresses in the packets of the server."""
    requested: set[int] = field(factory=set, init=False)
    """Chunks."""

    def join(self) -> None:
        """Ask for the size."""
        self._send(Join(self.address, CLIENT, 2))

    def receive(self, data: bytes) -> None:
        """Handle a datagram of the server."""
        packet = frisbee.parse(data)
        if isinstance(packet, Join2Reply) and self.size is None:
            self.servers.add(packet.source)
            self.size = packet.size
            self._request_next()
        elif isinstance(packet, Block):
            self.servers.add(packet.source)
            key = packet.chunk, packet.block
            self.repeated += key in self.blocks
            self.blocks[key] = packet.data
            self.received[packet.chunk] = self.received.get(packet.chunk, 0) | 1 << packet.block
            if self.size is not None and not self._missing(packet.chunk):
                self._request_next()

    def request_missing(self) -> None:
        """Request the missing blocks again, when nothing has come for a while."""
        if self.size is None:
            self.join()
        for chunk in self.requested:
            missing = self._missing(chunk)
            if missing:
                self._send(PartialRequest(self.address, chunk, 1, missing))

    @property
    def image(self) -> bytes | None:
        """The image; None: some of it is missing."""
        if self.size is None or len(self.blocks) < frisbee.blocks_of(self.size):
            return None
        return b"".join(self.blocks[key] for key in sorted(self.blocks))[: self.size]

    def leave(self) -> None:
        """Say that all has come."""
        self._send(Leave(self.address, CLIENT, 1, frisbee.Statistics()))

    def _request_next(self) -> None:
        assert self.size is not None
        blocks = frisbee.blocks_of(self.size)
        chunk = len(self.requested)
        if chunk * CHUNK_BLOCKS < blocks and chunk not in self.requested:
            self.requested.add(chunk)
            self._send(Request(self.address, chunk, 0, frisbee.blocks_in(chunk, blocks)))

    def _missing(self, chunk: int) -> int:
        assert self.size is not None
        count = frisbee.blocks_in(chunk, frisbee.blocks_of(self.size))
        return ((1 << count) - 1) & ~self.received.get(chunk, 0)

    def _send(self, packet: frisbee.Packet) -> None:
        self.out.append(frisbee.pack(packet))


def image_of(size: int) -> bytes:
    """An image of which no two blocks are equal."""
    count = frisbee.blocks_of(size)
    return b"".join(number.to_bytes(4, "big") * (BLOCK_SIZE // 4) for number in range(count))[:size]
