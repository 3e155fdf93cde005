"""The ``static`` resolver: one boot file for everybody."""

from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import BootFile, IBootFileResolver, boot_plugin
from bootfw.resolvers.checks import NETWORK_GEAR, file_name, optional_ipv4_address


@implementer(IBootFileResolver)
@frozen
class StaticResolver:
    """One boot file for everybody but network gear, which boots no program."""

    file: str = field(converter=file_name)
    """Path for TFTP or absolute URL. `{http}`, `{https}` (the beginning of our own URLs), `{server}`, `{mac}`, `{uuid}`
    and `{architecture}` are filled in."""
    server: str | None = field(default=None, converter=optional_ipv4_address)
    """IPv4 address of the TFTP server; this one when omitted."""

    def resolve(self, request: Any) -> BootFile | None:
        """See IBootFileResolver."""
        return None if request.architecture == NETWORK_GEAR else BootFile(self.file, self.server)


plugin = boot_plugin(IBootFileResolver, StaticResolver)
