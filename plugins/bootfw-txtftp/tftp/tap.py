"""``twistd tftp``: serves a directory."""

from typing import Any, ClassVar

from twisted.application.internet import UDPServer
from twisted.python import usage
from twisted.python.filepath import FilePath

from tftp.backend import FilesystemSynchronousBackend
from tftp.protocol import TFTP


class Options(usage.Options):
    """The command line."""

    optFlags: ClassVar[list[list[str]]] = [
        ["enable-reading", "r", "Lets the clients read from this server."],
        ["enable-writing", "w", "Lets the clients write to this server."],
        ["verbose", "v", "Accepted and ignored; the log has a line for each request."],
    ]
    optParameters: ClassVar[list[list[Any]]] = [
        ["port", "p", 1069, "Port number to listen on.", int],
        ["root-directory", "d", None, "Root directory for this server.", FilePath],
    ]

    def postOptions(self) -> None:
        """Check what is given."""
        if self["root-directory"] is None:
            raise usage.UsageError("You must provide a root directory for the server")


def makeService(options: Options) -> UDPServer:
    """Return the server."""
    backend = FilesystemSynchronousBackend(
        options["root-directory"], can_read=options["enable-reading"], can_write=options["enable-writing"]
    )
    return UDPServer(options["port"], TFTP(backend))
