"""The ``static`` resolver: one boot file for every client."""

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import (
    NETWORK_GEAR,
    BootFile,
    BootRequest,
    IBootFileResolver,
    IListableResolver,
    IUniformResolver,
    ListedBootFile,
    boot_plugin,
)
from bootfw.resolvers.checks import file_name, optional_ipv4_address, placeholders, seconds


@implementer(IUniformResolver, IListableResolver)
@frozen
class StaticResolver:
    """The same boot file for every client, except for network gear, which boots no program."""

    file: str = field(converter=file_name)
    """A path for TFTP or an absolute URL. The placeholders `{http}`, `{https}` (the beginning of our own URLs),
    `{server}`, `{mac}`, `{uuid}` and `{architecture}` are filled in."""
    server: str | None = field(default=None, converter=optional_ipv4_address)
    """IPv4 address of the TFTP server; default: this server."""

    configfile: str = field(default="", converter=placeholders)
    """For PXELINUX: its configuration file, below `pathprefix` (option 209)."""
    pathprefix: str = field(default="", converter=placeholders)
    """For PXELINUX: the prefix of every path, with its slash (option 210)."""
    reboot_seconds: int | None = field(default=None, converter=seconds)
    """For PXELINUX: seconds after which it reboots if it has no kernel (option 211)."""
    _boot_file: BootFile = field(init=False, repr=False, eq=False)
    """The options as a BootFile."""

    @_boot_file.default
    def _answer(self) -> BootFile:
        return BootFile(
            self.file,
            self.server,
            configfile=self.configfile,
            pathprefix=self.pathprefix,
            reboot_seconds=self.reboot_seconds,
        )

    def boot_files(self) -> list[ListedBootFile]:
        """See IListableResolver."""
        return [ListedBootFile(self._boot_file)]

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        return None if request.architecture == NETWORK_GEAR else self._boot_file


plugin = boot_plugin(IBootFileResolver, StaticResolver)
