"""The ``next-boot`` resolver: one-time boots, which ``bootfw next`` sets."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    Address,
    BootFile,
    BootFileUsed,
    BootRefused,
    BootRequest,
    Client,
    ConfigError,
    Event,
    IBootFileResolver,
    IBootObserver,
    IClientAware,
    IOrderStore,
    IReadableStore,
    ISelectiveResolver,
    IStandbyOperable,
    IStartable,
    NextBootTaken,
    Outcome,
    PluginContext,
    StateError,
    TransferEnded,
    TransferReport,
    boot_plugin,
    expand,
    ipxe_can_load,
    mac_text,
    only_phase,
)
from bootfw.resolvers.checks import file_name
from bootfw.resolvers.scripts import is_url, requested_path, script, script_path
from bootfw.stores.memory import MemoryStore

ORDERS = "next-boot"
"""The kind of orders in the store for one-time boots."""

FOLDER = "next"
"""Directory of the generated scripts that chain iPXE to its file. The name of a script contains the MAC of its machine,
so that a request for it identifies the machine, even if only its address is known."""

_SERVED = (Outcome.COMPLETE, Outcome.UNCONFIRMED)


@frozen
class Order:
    """The one-time boot of a machine."""

    mac: str
    file: str
    ordered: float
    """Seconds since the epoch."""


@implementer(ISelectiveResolver, IClientAware, IStartable, IBootObserver, IStandbyOperable)
@define(eq=False)
class NextBoot:
    """Gives a machine the file that `bootfw next` has set, once; after that the other resolvers decide again.

    A one-time boot is removed when the machine has loaded the file, not when the file was offered. It survives
    restarts.
    """

    _store: IOrderStore = field(factory=MemoryStore)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False, repr=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False, repr=False)
    _orders: dict[str, Order] = field(factory=dict, init=False)
    """By MAC."""
    _offered: dict[str, dict[str, bool]] = field(factory=dict, init=False)
    """Path -> MACs of machines that were offered it and have not loaded it, the earliest first, each with whether the
    request may be from an installed system, which does not load the file."""

    @classmethod
    def configured(cls, context: PluginContext) -> "NextBoot":
        """Called by boot_plugin."""
        return cls(context.orders or MemoryStore())

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""
        self._publish = publish
        self._orders = load_next_boots(self._store)
        self._offered.clear()

    def close(self) -> "Deferred[None]":
        """See IStartable: fires when one-time boots that are over have been removed from the store."""
        return self._store.close_orders(ORDERS)

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IOperable."""
        return {"next": self._list, "order": self._order, "cancel": self._cancel}

    def standby_operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IStandbyOperable."""
        return {"next": self._list_stored} if IReadableStore.providedBy(self._store) else {}

    def _list_stored(self, arguments: Mapping[str, Any]) -> "Deferred[list[Mapping[str, Any]]]":
        store: Any = self._store
        reading: Deferred[Mapping[str, Mapping[str, object]]] = store.read_orders(ORDERS)
        return reading.addCallback(lambda stored: [asdict(order) for order in _orders_of(stored).values()])

    def _list(self, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [asdict(order) for order in self._orders.values()]

    def _order(self, arguments: Mapping[str, Any]) -> "Deferred[list[Mapping[str, Any]]]":
        try:
            order = Order(mac_text(str(arguments.get("mac"))), file_name(str(arguments.get("file"))), time.time())
        except (ValueError, ConfigError) as error:
            raise StateError(str(error)) from error

        def saved(_: object) -> list[Mapping[str, Any]]:
            self._orders[order.mac] = order
            return [asdict(order)]

        return save_next_boot(self._store, order).addCallback(saved)

    def _cancel(self, arguments: Mapping[str, Any]) -> "Deferred[list[Mapping[str, Any]]] | list[Mapping[str, Any]]":
        order = self._orders.get(str(arguments.get("mac")))
        if order is None:
            return []

        def saved(_: object) -> list[Mapping[str, Any]]:
            if self._orders.get(order.mac) is order:
                del self._orders[order.mac]
            return [asdict(order)]

        return self._store.save_orders(ORDERS, {order.mac: None}).addCallback(saved)

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        order = self._orders.get(request.mac)
        if order is None:
            return None
        if not request.is_dhcp or only_phase(order.file):
            # Removed by BootFileUsed. It need not be expanded: it names no place.
            return BootFile(order.file) if only_phase(order.file) == request.phase else None
        try:
            name = expand(order.file, request)
        except BootRefused as missing:
            self._log.warn(
                "one-time boot of {mac}: it can't load {file!r}: {why}", mac=order.mac, file=order.file, why=missing
            )
            return None
        scheme = name.partition("://")[0].lower()
        if request.ipxe and is_url(name) and not ipxe_can_load(scheme, request):
            self._log.warn(
                "one-time boot of {mac}: it can't load {file!r}: its iPXE has no {scheme}",
                mac=order.mac,
                file=order.file,
                scheme=scheme.upper(),
            )
            return None
        found = _answer(name, request)
        if found is not None:
            machines = self._offered.setdefault(requested_path(found.name), {})
            machines[request.mac] = machines.get(request.mac, True) and request.may_be_system
        return found

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if isinstance(event, TransferEnded) and event.report.request.path in self._offered:
            report = event.report
            if report.outcome in _SERVED and not report.request.write:
                self._served(report)
        elif isinstance(event, BootFileUsed):
            order = self._orders.get(event.mac)
            if order is not None and order.file == event.file:
                self._remove(event.at, event.mac)

    def _served(self, report: TransferReport) -> None:
        path = report.request.path
        machines = self._offered[path]
        mac = min(machines, key=machines.__getitem__)
        if path != script_path(FOLDER, mac):
            # Several machines may have the same file. If the MAC of the client is not known (behind a router), take the
            # machine that was offered it first: to boot an installer once too seldom is better than once too often.
            mac = self._client_at(report.request.peer).mac or mac
        if mac not in machines:
            return
        del machines[mac]
        if not machines:
            del self._offered[path]
        self._remove(report.ended, mac)

    def _remove(self, now: float, mac: str) -> None:
        order = self._orders.pop(mac, None)
        if order is None:
            return
        self._publish(NextBootTaken(now, mac, order.file))
        self._store.save_orders(ORDERS, {mac: None}).addErrback(self._not_removed)

    def _not_removed(self, failure: Failure) -> None:
        self._log.error(
            "a one-time boot that was served can't be removed from the store, so it is served again after a restart: "
            "{why}",
            why=failure.value,
        )


def load_next_boots(store: IOrderStore) -> dict[str, Order]:
    """Load the one-time boots of a store, by MAC.

    :raise StateError: they can't be read.
    """
    return _orders_of(store.load_orders(ORDERS))


def _orders_of(stored: Mapping[str, Mapping[str, object]]) -> dict[str, Order]:
    orders = {}
    for mac, order in stored.items():
        try:
            orders[mac] = Order(mac, str(order["file"]), float(str(order["ordered"])))
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the stored one-time boot of {mac} is invalid: {order!r}") from error
    return orders


def save_next_boot(store: IOrderStore, order: Order) -> "Deferred[None]":
    """Store a one-time boot, replacing an earlier one of that machine."""
    return store.save_orders(ORDERS, {order.mac: {"file": order.file, "ordered": order.ordered}})


def _answer(name: str, request: BootRequest) -> BootFile | None:
    """Return the BootFile for *name*; None: this client can't load it, but its next boot stage can."""
    if request.ipxe:
        # A script of its own for each machine: its transfer shows that this machine boots, even if the file itself is
        # on another server.
        location = name if is_url(name) else f"/{requested_path(name)}"
        return script(FOLDER, f"#!ipxe\nchain --autofree --replace {location}\n", request)
    if requested_path(name).lower().endswith(".ipxe"):
        return None
    if not is_url(name):
        return BootFile(name)
    # Firmware gets only URLs of this server: a transfer from another server would not be seen.
    own_urls = [url for url in (request.http_url, request.https_url) if url]
    return BootFile(name) if request.http and any(name.startswith(f"{url}/") for url in own_urls) else None


plugin = boot_plugin(IBootFileResolver, NextBoot)
