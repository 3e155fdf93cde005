"""The ``by-architecture`` resolver: a boot file for each client architecture."""

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootRequest,
    ErrorCollector,
    IBootFileResolver,
    IListableResolver,
    IUniformResolver,
    ListedBootFile,
    boot_plugin,
)
from bootfw.resolvers.checks import (
    BOOT_FILE_KEYS,
    architecture,
    boot_file,
    file_name,
    optional_ipv4_address,
    unknown_keys,
)

IPXE = "ipxe"
_HTTP = "-http"


def _files(table: Mapping[str, Any], server: str | None) -> Mapping[str, BootFile]:
    read, collector = {}, ErrorCollector()
    for name, file in table.items():
        with collector.under("files", name):
            if name != IPXE:
                architecture(name, (IPXE,))
        with collector.under("files", name):
            if isinstance(file, str):
                read[name] = BootFile(file_name(file), server)
            else:
                collector.errors += unknown_keys(file, BOOT_FILE_KEYS, "files", name)
                read[name] = boot_file({"server": server, **file} if server else file)
    collector.finish()
    return read


@implementer(IUniformResolver, IListableResolver)
@frozen
class ByArchitecture:
    """A boot file for each client architecture.

    iPXE gets the file of "ipxe"; if there is none, that of its architecture. A machine that boots by HTTP gets the file
    of its architecture with "-http"; if there is none, that of the architecture itself, from our own HTTP server if it
    is a path.
    """

    files: dict[str, str | dict[str, Any]]
    """Architecture, "ipxe", "network-gear", or "unknown" for a client that sends no architecture -> a path for TFTP or
    an absolute URL. The placeholders `{http}`, `{https}` (the beginning of our own URLs), `{server}`, `{mac}`, `{uuid}`
    and `{architecture}` are filled in. A table sets more: `{ file = "pxelinux.0", configfile = "...", pathprefix =
    "...", reboot-seconds = 300, server = "..." }`; `configfile`, `pathprefix` and `reboot-seconds` are for PXELINUX
    (RFC 5071)."""
    server: str | None = field(default=None, converter=optional_ipv4_address)
    """IPv4 address of the TFTP server; default: this server."""
    _read: Mapping[str, BootFile] = field(init=False, repr=False)

    @_read.default
    def _checked(self) -> Mapping[str, BootFile]:
        return _files(self.files, self.server)

    def boot_files(self) -> Iterator[ListedBootFile]:
        """See IListableResolver."""
        return (ListedBootFile(file, architecture, architecture) for architecture, file in self._read.items())

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        return next(self._choices(request), None)

    def _choices(self, request: BootRequest) -> Iterator[BootFile]:
        architecture = request.architecture.removesuffix(_HTTP)
        if request.ipxe and IPXE in self._read:
            yield self._read[IPXE]
        if request.http and architecture + _HTTP in self._read:
            yield self._read[architecture + _HTTP]
        plain = self._read.get(architecture)
        if plain is not None:
            yield plain


plugin = boot_plugin(IBootFileResolver, ByArchitecture)
