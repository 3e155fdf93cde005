"""The ``static`` resolver: one boot file for everybody."""

from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import BootFile, IBootFileResolver, boot_plugin
from bootfw.resolvers.checks import NETWORK_GEAR, file_name, optional_ipv4_address, placeholders, seconds


@implementer(IBootFileResolver)
@frozen
class StaticResolver:
    """One boot file for everybody but network gear, which boots no program."""

    file: str = field(converter=file_name)
    """Path for TFTP or absolute URL. `{http}`, `{https}` (the beginning of our own URLs), `{server}`, `{mac}`, `{uuid}`
    and `{architecture}` are filled in."""
    server: str | None = field(default=None, converter=optional_ipv4_address)
    """IPv4 address of the TFTP server; this one when omitted."""

    configfile: str = field(default="", converter=placeholders)
    """For PXELINUX: its configuration file, below `pathprefix` (option 209)."""
    pathprefix: str = field(default="", converter=placeholders)
    """For PXELINUX: what stands in front of every path, with its slash (option 210)."""
    reboot_seconds: int | None = field(default=None, converter=seconds)
    """For PXELINUX: after how long without a kernel it starts anew (option 211)."""

    def resolve(self, request: Any) -> BootFile | None:
        """See IBootFileResolver."""
        if request.architecture == NETWORK_GEAR:
            return None
        return BootFile(
            self.file,
            self.server,
            configfile=self.configfile,
            pathprefix=self.pathprefix,
            reboot_seconds=self.reboot_seconds,
        )


plugin = boot_plugin(IBootFileResolver, StaticResolver)
