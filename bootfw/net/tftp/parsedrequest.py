"""RRQ and WRQ datagrams, parsed into the requests that backends get."""

from attrs import frozen

from bootfw.tftp.path import relative
from bootfw.values import Address, Mode, TransferRequest, Via
from bootfw.wire import tftp as wire

_MODES = {"octet": Mode.OCTET, "netascii": Mode.NETASCII}


@frozen
class ParsedRequest:
    """The content of a request, without its sender. Machines that boot alike send the same bytes, so it is cached."""

    filename: str
    path: str
    write: bool
    mode: Mode | None
    """None: one that is not served."""
    mode_name: str
    options: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> "ParsedRequest":
        """Parse a datagram.

        :raise WireError: it is malformed.
        """
        packet = wire.parse(data)
        assert isinstance(packet, wire.Request)
        filename, mode = packet.filename, packet.mode
        return cls(filename, relative(filename), packet.write, _MODES.get(mode), mode, packet.options)

    def for_peer(self, peer: Address, via: Via | None) -> TransferRequest:
        """Return the request as sent by *peer*."""
        local = via.local if via is not None else ""
        return TransferRequest(self.filename, self.path, peer, local, self.write, self.mode or Mode.OCTET, self.options)
