"""The resolver ``emulab``: names what nodes of a testbed boot, by DHCP and bootinfo, and runs tmcd for their
systems."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field, validators
from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from bootfw.api import (
    ARCHITECTURES,
    Address,
    BootFile,
    BootRequest,
    Client,
    ConfigError,
    Event,
    IBootFileResolver,
    IBootObserver,
    IChainAware,
    IClientAware,
    IListableResolver,
    IOperable,
    ISelectiveResolver,
    ISelfChecking,
    IStartable,
    ListedBootFile,
    PluginContext,
    RequestClassified,
    StateError,
    boot_plugin,
    listen_udp,
    mac_text,
)
from bootfw_emulab.bootinfopacket import ORDER_PORT, REQUEST_PORT
from bootfw_emulab.bootinfoserver import BootinfoServer, OrderSender
from bootfw_emulab.bootwhat import PHASE, boot_what
from bootfw_emulab.connectionstates import READ_WITHIN
from bootfw_emulab.loads import Loads
from bootfw_emulab.node import Node
from bootfw_emulab.nodes import Nodes
from bootfw_emulab.ports import HostPort, Ports
from bootfw_emulab.replies import Replies
from bootfw_emulab.tmcdserver import PROTOCOL as TMCD
from bootfw_emulab.tmcdserver import Tmcd, TmcdConnections, TmcdDatagrams

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def _host_port(text: str) -> HostPort:
    host, _, port = text.rpartition(":")
    try:
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError
        return str(ipaddress.IPv4Address(host)), int(port)
    except ValueError:
        raise ValueError(f'must be an IPv4 address and a port, such as "0.0.0.0:6969", not "{text}"') from None


def _check_host_port(instance: object, attribute: object, text: str) -> None:
    if text:
        _host_port(text)


def _check_each_host_port(instance: object, attribute: object, texts: Sequence[str]) -> None:
    for text in texts:
        _host_port(text)


def _check_loader(instance: object, attribute: object, loader: Mapping[str, str]) -> None:
    for architecture in loader:
        if architecture not in (*ARCHITECTURES.values(), "unknown"):
            known = ", ".join(dict.fromkeys((*ARCHITECTURES.values(), "unknown")))
            raise ConfigError(f"unknown architecture; known: {known}", ("loader", architecture))


def _check_boot(instance: object, attribute: object, text: str) -> None:
    if text:
        boot_what(text)


@implementer(
    ISelectiveResolver,
    IListableResolver,
    IStartable,
    IBootObserver,
    IClientAware,
    IChainAware,
    IOperable,
    ISelfChecking,
)
@define(eq=False)
class Emulab:
    """The boot services of Emulab: bootinfo and tmcd, for nodes that are described by host files.

    By DHCP a node gets its boot loader, which asks by bootinfo what to boot. The answer is ``load-boot`` while the node
    has images to load, else what its host file has for a free node or for one in an experiment. If it has nothing, the
    next resolvers decide.
    """

    reads_machines: ClassVar[bool] = True
    hosts: Path | None = None
    """Directory of host files; those with a table ``[emulab]`` are nodes, as is a ``[[machine]]`` with one."""
    templates: Path | None = None
    """Directory of templates for replies of tmcd, which come before those of this plugin."""
    loader: dict[str, str] = field(factory=dict, validator=_check_loader)
    """Architecture -> the boot loader that nodes get by DHCP."""
    free_boot: str = field(default="wait", validator=_check_boot)
    """What a free node boots; "": the next resolvers decide."""
    load_boot: str = field(default="", validator=_check_boot)
    """What a node boots while it has images to load."""
    bootinfo_listen: str = field(default=f"0.0.0.0:{REQUEST_PORT}", validator=_check_host_port)
    """ "": bootinfo is off."""
    order_port: int = field(default=ORDER_PORT, validator=[validators.ge(0), validators.lt(65536)])
    """Orders to nodes that wait are sent from this port."""
    tmcd_listen: list[str] = field(factory=lambda: ["0.0.0.0:7777", "0.0.0.0:14447"], validator=_check_each_host_port)
    """For TCP and UDP each."""
    certificate: Path | None = None
    """PEM file with the certificate of tmcd, and those of its issuers."""
    key: Path | None = None
    """PEM file with its private key."""
    _reactor: Any = field(default=None, init=False)
    _nodes: Nodes = field(init=False)
    _replies: Replies = field(init=False)
    _loads: Loads = field(init=False)
    _resolve: Callable[[BootRequest], Any] = field(default=lambda request: None, init=False)
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False)
    _server: BootinfoServer | None = field(default=None, init=False)
    """None: it is not started."""
    _connections: list[TmcdConnections] = field(factory=list, init=False)
    _ports: Ports | None = field(default=None, init=False)

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        hosts: str | None = None,
        templates: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        **options: Any,
    ) -> "Emulab":
        """Called by boot_plugin. Relative paths are relative to the configuration file."""
        paths = {"hosts": hosts, "templates": templates, "certificate": certificate, "key": key}
        for name, path in paths.items():
            if path is not None and (not path or "\0" in path):
                raise ConfigError("must be a path", (name,))
        if hosts is None and not any("emulab" in machine for machine in context.machines):
            raise ConfigError('"hosts" is missing: a directory of host files; or give a [[machine]] a [machine.emulab]')
        if (certificate is None) is not (key is None):
            missing = "key" if key is None else "certificate"
            raise ConfigError(f'"{missing}" is missing: TLS needs a certificate and its key')
        if certificate is not None:
            _check_tls()
        full_paths: dict[str, Any] = {
            name: context.directory / path for name, path in paths.items() if path is not None
        }
        resolver = cls(**full_paths, **options)
        resolver._reactor = context.reactor
        seconds = context.reactor.seconds if context.reactor is not None else None
        resolver._nodes = Nodes(resolver.hosts, seconds, context.machines)
        resolver._replies = Replies(resolver.templates)
        resolver._loads = Loads(context.orders)
        return resolver

    def problem(self) -> str:
        """See ISelfChecking: the mistakes in the host files."""
        return "; ".join(self._nodes.problems())

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def set_resolver_chain(self, resolve: Callable[[BootRequest], Any]) -> None:
        """See IChainAware."""
        self._resolve = resolve

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable: opens the sockets."""
        reactor = self._reactor
        certificate = self._tls_context()
        self._loads.start()
        orders = OrderSender()
        self._server = server = BootinfoServer(
            reactor, self._nodes, self._resolve, lambda peer: self._client_at(peer), publish, orders
        )
        tmcd = Tmcd(reactor, self._nodes, self._replies, self._loads, server, publish)
        self._ports = ports = Ports(reactor, publish)
        if self.bootinfo_listen:
            bootinfo_address = _host_port(self.bootinfo_listen)
            order_address = bootinfo_address[0], self.order_port
            ports.add(PHASE, bootinfo_address, partial(listen_udp, reactor, server, *bootinfo_address))
            ports.add(
                PHASE, order_address, partial(listen_udp, reactor, orders, *order_address), "orders leave from here"
            )
        for address, port in map(_host_port, self.tmcd_listen):
            factory = TmcdConnections(reactor, tmcd, certificate, READ_WITHIN)
            self._connections.append(factory)
            ports.add(f"{TMCD} by TCP", (address, port), partial(reactor.listenTCP, port, factory, interface=address))
            by_udp = partial(listen_udp, reactor, TmcdDatagrams(tmcd), address, port)
            ports.add(f"{TMCD} by UDP", (address, port), by_udp)
        ports.open()

    def close(self) -> "Deferred[Any]":
        """See IStartable."""
        closing: list[Deferred[Any]] = []
        for factory in self._connections:
            factory.close()
        if self._ports is not None:
            closing = self._ports.close()
        if self._server is not None:
            self._server.close()
        self._connections, self._ports, self._server = [], None, None
        return DeferredList([*closing, self._loads.close()], consumeErrors=True)

    def boot_files(self) -> Iterator[ListedBootFile]:
        """See IListableResolver."""
        for architecture, file in self.loader.items():
            yield ListedBootFile(BootFile(file), architecture, f"loader.{architecture}")

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        if request.phase != PHASE and (not request.is_dhcp or request.ipxe or not self.loader):
            return None
        node = self._nodes.of_mac(request.mac)
        if node is None:
            return None
        if request.phase != PHASE:
            loader = self.loader.get(request.architecture)
            return BootFile(loader) if loader is not None else None
        text = self._boot_of(node)
        return BootFile(f"{PHASE}:{text}") if text else None

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if self._server is not None and isinstance(event, RequestClassified):
            self._server.firmware_seen(event.request.mac)

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IOperable."""
        return {"nodes": self._node_records, "node-order": self._send_order, "node-load": self._load_again}

    def _boot_of(self, node: Node) -> str:
        if self._loads.is_pending(node) and self.load_boot:
            return self.load_boot
        return node.table.boot if node.table.is_allocated else node.table.free_boot or self.free_boot

    def _node_records(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        loaders = {str(each["mac"]): each for each in self._server.records()} if self._server is not None else {}
        return [
            {
                "node": node.name,
                "mac": node.mac,
                "address": node.addresses[0] if node.addresses else "",
                "experiment": node.table.experiment,
                "boot": self._boot_of(node),
                "loads": self._loads.is_pending(node),
                "loader": loaders.get(node.mac, {}).get("state", ""),
            }
            for node in self._nodes.all()
        ]

    def _send_order(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        node = self._named_node(arguments)
        try:
            boot = boot_what(str(arguments.get("order")))
        except ValueError as error:
            raise StateError(str(error)) from error
        if self._server is None or not node.addresses:
            raise StateError(f'the host file of "{node.name}" has no address')
        self._server.send_order(node, node.mac, node.addresses[0], boot)
        return [{"node": node.name, "order": boot.text, "address": node.addresses[0]}]

    def _load_again(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        node = self._named_node(arguments)
        if not node.table.load:
            raise StateError(f'the host file of "{node.name}" has no [[emulab.load]]')
        self._loads.again(node)
        return [{"node": node.name, "images": [each.image for each in node.table.load]}]

    def _named_node(self, arguments: Mapping[str, Any]) -> Node:
        """Return the node that an operator names: by its host file, its MAC or its address.

        :raise StateError: there is none.
        """
        name = str(arguments.get("node"))
        try:
            mac = mac_text(name)
        except ValueError:
            mac = ""
        node = self._nodes.of_mac(mac) or self._nodes.named(name) or self._nodes.at(name)
        if node is None or not node.mac:
            known = ", ".join(each.name for each in self._nodes.all() if each.mac)
            raise StateError(f'there is no node "{name}" with a MAC; known: {known or "none"}')
        return node

    def _tls_context(self) -> Any:
        """Return the factory of TLS contexts; None: there is no certificate.

        :raise StateError: the files can't be read, or the key is of another certificate.
        """
        if self.certificate is None or self.key is None:
            return None
        from OpenSSL import SSL, crypto
        from twisted.internet import ssl

        try:
            blocks = _PEM.findall(self.certificate.read_bytes())
            if not blocks:
                raise ValueError("there is no certificate in it")
            certificate, *issuers = [ssl.Certificate.loadPEM(each).original for each in blocks]
            key = ssl.KeyPair.load(self.key.read_bytes(), crypto.FILETYPE_PEM).original
            options = ssl.CertificateOptions(key, certificate, extraCertChain=issuers)
            options.getContext().check_privatekey()
        except (OSError, ValueError, TypeError, crypto.Error, SSL.Error) as error:
            raise StateError(f"tmcd can't use {self.certificate} with {self.key}: {error}") from error
        return options


def _check_tls() -> None:
    """Check that Twisted has TLS.

    :raise ConfigError: pyOpenSSL, which it needs, is not installed.
    """
    try:
        from twisted.internet import ssl  # noqa: F401
    except ImportError as error:
        message = f'TLS needs pyOpenSSL: pip install "bootfw-emulab[tls]" ({error})'
        raise ConfigError(message, ("certificate",)) from error


plugin = boot_plugin(IBootFileResolver, Emulab)
