"""The ``metadata`` backend: the metadata and user data that cloud-init requests at the first boot of a system."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bootfw.api import (
    Client,
    ConfigError,
    FileMissing,
    Finding,
    IBackend,
    ILintable,
    IPerClientBackend,
    IReader,
    ISelfChecking,
    MemoryReader,
    MountTable,
    PluginContext,
    TransferRequest,
    boot_plugin,
)
from bootfw.backends.detached import Threads
from bootfw.backends.hosts import GROUPS, HostFileError, Hosts
from bootfw.backends.mistakes import mistake
from bootfw.backends.names import Identifiers
from bootfw.backends.paths import lexical
from bootfw.backends.template import SUFFIX, TemplateBackend

NOCLOUD = "nocloud"
"""Directory of the files of cloud-init's data source NoCloud: meta-data, user-data, vendor-data and network-config."""

BUNDLE = f"{NOCLOUD}/bundle.json"
"""All of these in one JSON object; a file that does not exist is null."""

EC2 = ("latest", "2009-04-04")
"""Versions of the tree of the data source Ec2, as directories; cloud-init's first choice and its last."""

_FILES = ("meta-data", "user-data", "vendor-data", "network-config")

_KEYS = "ssh-keys"
"""Key of host files: the public keys, for the tree of Ec2 and the meta-data that we make."""


@implementer(IPerClientBackend, ISelfChecking, ILintable)
@define(eq=False)
class MetadataBackend:
    """Metadata and user data for the system that has been installed, for NoCloud and Ec2 of cloud-init.

    Each machine gets its own, rendered from ``user-data.j2`` and the like with the values of its host file; a machine
    without a host file gets none. A machine is identified by its address only: by the MAC that the kernel has for the
    address, or that has leased it. Nothing in the request counts, so no machine can get the data of another. By TFTP
    nothing is served.

    :param root: the directory of the templates ``meta-data.j2``, ``user-data.j2``, ``vendor-data.j2`` and
        ``network-config.j2``; each may be missing. The variables are those of the template backend.
    :param hosts: the directory of the host files. They identify the machine by ``mac``. ``[[machine]]`` tables of the
        configuration count like host files.
    """

    reads_machines: ClassVar[bool] = True
    for_systems: ClassVar[bool] = True
    names_directories: ClassVar[bool] = True
    """Names that end in a slash have content: cloud-init requests the directories of Ec2 so."""

    _templates: TemplateBackend
    _hosts: Hosts
    _reactor: Any = None
    _mounts: MountTable = field(factory=MountTable, init=False)
    _threads: Threads | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None

    @classmethod
    def configured(cls, context: PluginContext, root: str, hosts: str | None = None) -> "MetadataBackend":
        """Called by boot_plugin. Relative paths are relative to the configuration file."""
        for key, path in (("root", root), ("hosts", hosts)):
            if path is not None and (not path or "\0" in path):
                raise ConfigError("must be the path of a directory", (key,))
        if not hosts and not context.machines:
            raise ConfigError('is missing, and there are no [[machine]] tables: add hosts = "hosts"', ("hosts",))
        reactor: Any = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        directory = context.directory / hosts if hosts else None
        site = Hosts(directory, reactor.seconds if reactor else None, context.machines)
        return cls.of(context.directory / root, site, reactor)

    @classmethod
    def of(cls, root: Path, hosts: Hosts, reactor: Any = None) -> "MetadataBackend":
        """Return the backend for a directory of templates and one of host files."""
        return cls(TemplateBackend(root, hosts=hosts), hosts, reactor)

    def problem(self) -> str:
        """See ISelfChecking. File systems that can hang are not read, since that would block the start."""
        return "" if self._threads is not None and self._mount() is not None else self._templates.problem()

    def lint(self) -> "list[Finding]":
        """See ILintable."""
        return list(self._templates.lint())

    def open(self, path: str, request: TransferRequest) -> Any:
        """See IBackend."""
        render = self._renderer(lexical(path))
        client = request.client
        if render is None or request.protocol == "tftp" or not (client.leased and client.mac):
            raise FileMissing()
        # What a client says of itself by DHCP, such as its UUID, does not choose the host file.
        leased_request = evolve(request, client=Client(client.address, client.mac, leased=True))

        def rendered() -> IReader:
            return MemoryReader(render(leased_request).encode())

        if self._threads is None:
            return rendered()
        mount = self._mount()
        if mount is None and not self._mounts.hanging():
            return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), rendered)
        return self._threads.call(mount or self._templates.root, rendered)

    def _mount(self) -> bytes | None:
        """Return the mount point of a file system that can hang and has the templates or host files; None: none."""
        mount = self._mounts.on_the_way_to(self._templates.root, b"user-data" + SUFFIX.encode())
        directory = self._hosts.directory
        return mount or (None if directory is None else self._mounts.on_the_way_to(directory, GROUPS.encode()))

    def _renderer(self, path: str) -> "Callable[[TransferRequest], str] | None":
        """Return the function that renders the file at *path*; None: there is no such file."""
        directory, _, name = path.partition("/")
        if path == BUNDLE:
            return self._bundle
        if directory == NOCLOUD and name in _FILES:
            return lambda request: self._file(name, request)
        if directory not in EC2:
            return None
        if name in ("user-data", "vendor-data"):
            return lambda request: self._file(name, request)
        if name == "":
            return lambda request: "meta-data/\nuser-data\n" if self._host(request) else ""
        if name == "meta-data" or name.startswith("meta-data/"):
            return lambda request: self._ec2(name.removeprefix("meta-data").strip("/"), request)
        return None

    def _host(self, request: TransferRequest) -> Mapping[str, Any]:
        """Return the values of the machine's host file.

        :raise FileMissing: it has none.
        """
        try:
            host = self._hosts.find([Identifiers(request.client.mac)])
        except HostFileError as error:
            raise mistake(str(error)) from error
        if not host["name"]:
            raise FileMissing()
        return host

    def _file(self, name: str, request: TransferRequest) -> str:
        host = self._host(request)
        if (self._templates.root / (name + SUFFIX)).is_file():
            reader = self._templates.open(name, request)
            return bytes(reader.read(0, reader.size)).decode()
        if name == "meta-data":
            metadata = {"instance-id": _instance(request), "local-hostname": host["name"], "public-keys": _keys(host)}
            return json.dumps(metadata, indent=1) + "\n"  # JSON is YAML
        if name == "network-config":
            raise FileMissing()
        return "#cloud-config\n{}\n" if name == "user-data" else ""

    def _bundle(self, request: TransferRequest) -> str:
        files: dict[str, str | None] = {}
        for name in _FILES:
            try:
                files[name] = self._file(name, request)
            except FileMissing:
                files[name] = None
        self._host(request)
        return json.dumps(files) + "\n"

    def _ec2(self, name: str, request: TransferRequest) -> str:
        host = self._host(request)
        keys = _keys(host)
        values = {
            "ami-id": host["name"],
            "hostname": host["name"],
            "instance-id": _instance(request),
            "local-hostname": host["name"],
            "local-ipv4": request.client.address,
            "mac": request.client.mac,
            "public-keys": "".join(f"{index}=key{index}\n" for index in range(len(keys))),
        }
        values |= {f"public-keys/{index}": "openssh-key" for index in range(len(keys))}
        values |= {f"public-keys/{index}/openssh-key": key for index, key in enumerate(keys)}
        if name == "":
            listed = [each + "/" if each == "public-keys" else each for each in values if "/" not in each]
            return "\n".join(each for each in listed if keys or each != "public-keys/")
        if name not in values or (name == "public-keys" and not keys):
            raise FileMissing()
        value: str = values[name]
        return value


def _instance(request: TransferRequest) -> str:
    """Return the instance id. It is made from the MAC, so it stays the same when the machine gets another name:
    cloud-init would take another id for a new system, and run its first-boot modules again."""
    return f"bootfw-{request.client.mac.replace(':', '')}"


def _keys(host: Mapping[str, Any]) -> list[str]:
    value = host.get(_KEYS, [])
    keys = [value] if isinstance(value, str) else value
    if not isinstance(keys, list) or not all(isinstance(key, str) and "\n" not in key for key in keys):
        raise mistake(f'the host file of {host["name"]}: "{_KEYS}" must be a list of strings without line ends')
    return keys


plugin = boot_plugin(IBackend, MetadataBackend)
