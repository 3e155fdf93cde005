"""A backend of your own: an iPXE script made for whoever asks for it.

[[backend]]
use = "custom_backend:plugin"
kernel = "http://10.77.0.1/vmlinuz"
"""

from attrs import frozen
from zope.interface import implementer

from bootfw.api import FileMissing, IBackend, IReader, MemoryReader, TransferRequest, boot_plugin


@implementer(IBackend)
@frozen
class Scripts:
    """Writes boot.ipxe for each client."""

    kernel: str
    arguments: str = "console=ttyS0"

    async def open(self, path: str, request: TransferRequest) -> IReader:
        """Called for every file. FileMissing leaves it to the next backend."""
        if path != "boot.ipxe":
            raise FileMissing
        client = request.peer[0]
        return MemoryReader(f"#!ipxe\nkernel {self.kernel} {self.arguments} client={client}\nboot\n".encode())


plugin = boot_plugin(IBackend, Scripts)
