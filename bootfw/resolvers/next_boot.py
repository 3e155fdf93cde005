"""The ``next-boot`` resolver: what ``bootfw next`` has ordered for a machine, once."""

from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.api import (
    Address,
    BootFile,
    BootRefused,
    BootRequest,
    Client,
    Event,
    IBootFileResolver,
    IBootObserver,
    IClientAware,
    IOperable,
    ISelectiveResolver,
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
)
from bootfw.resolvers.scripts import is_url, requested_path, script, script_path
from bootfw.stores.orders import FILE, Busy, Order, Orders

FOLDER = "next"
"""Of the scripts that lead iPXE to its file; by them it shows whose they are, however its address is known."""

_GLANCE = 0.05
"""Seconds that a client's answer may wait for somebody who writes into the file."""

_SERVED = (Outcome.COMPLETE, Outcome.UNCONFIRMED)


@implementer(ISelectiveResolver, IClientAware, IStartable, IBootObserver, IOperable)
@define(eq=False)
class NextBoot:
    """What `bootfw next` has ordered for a machine: it gets that file once, and then what the other resolvers say.

    An order is used up when the machine has got the file, not when it was offered; it survives restarts.
    """

    _kept: Orders
    _reactor: Any
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False, repr=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False, repr=False)
    _orders: Mapping[str, Order] = field(factory=dict, init=False)
    _version: Any = field(default=None, init=False)
    """Of the file, as it was read last."""
    _asked: dict[str, dict[str, bool]] = field(factory=dict, init=False)
    """Path -> the machines that were told of it and have not got it, in the order in which they came, each with whether
    it may be an installed system, which does not load it."""
    _over: list[Order] = field(factory=list, init=False)
    """Used up, and not out of the file yet."""
    _removing: bool = field(default=False, init=False)
    _running: bool = field(default=False, init=False)
    _closing: "Deferred[None] | None" = field(default=None, init=False)

    @classmethod
    def configured(cls, context: PluginContext) -> "NextBoot":
        """What boot_plugin calls."""
        return cls(Orders(context.state_directory / FILE), context.reactor)

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""
        self._publish = publish
        self._version = self._kept.version()
        self._orders = self._kept.read()
        self._running = True

    def close(self) -> "Deferred[None]":
        """See IStartable: fires when what is used up is out of the file."""
        self._running = False
        if not self._removing:
            return succeed(None)
        self._closing = Deferred()
        return self._closing

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IOperable. With it ``bootfw next`` knows that a server looks at the file."""
        return {"next": self._ordered}

    def _ordered(self, given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What machines boot next, as this process knows it."""
        self._look()
        orders = [order for order in self._orders.values() if order not in self._over]
        return [{"mac": order.mac, "file": order.file, "ordered": order.ordered} for order in orders]

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        self._look()
        order = self._orders.get(request.mac)
        if order is None or order in self._over:
            return None
        try:
            name = expand(order.file, request)
        except BootRefused as missing:
            self._log.warn(
                "the next boot of {mac} can't be {file!r}: {why}", mac=order.mac, file=order.file, why=missing
            )
            return None
        scheme = name.partition("://")[0].lower()
        if request.ipxe and is_url(name) and not ipxe_can_load(scheme, request):
            self._log.warn(
                "the next boot of {mac} can't be {file!r}: its iPXE has no {scheme}",
                mac=order.mac,
                file=order.file,
                scheme=scheme.upper(),
            )
            return None
        found = _answer(name, request)
        if found is not None:
            machines = self._asked.setdefault(requested_path(found.name), {})
            machines[request.mac] = machines.get(request.mac, True) and request.may_be_system
        return found

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if isinstance(event, TransferEnded) and event.report.request.path in self._asked:
            report = event.report
            if report.outcome in _SERVED and not report.request.write:
                self._got(report)

    def _got(self, report: TransferReport) -> None:
        path = report.request.path
        machines = self._asked[path]
        mac = min(machines, key=machines.__getitem__)
        if path != script_path(FOLDER, mac):
            # The same file for several machines. Who can't be told by its address, behind a router, is taken for the
            # one that has waited longest: to boot an installer once too little is better than once too often.
            mac = self._client_at(report.request.peer).mac or mac
        if mac not in machines:
            return
        del machines[mac]
        if not machines:
            del self._asked[path]
        order = self._orders.get(mac)
        if order is None or order in self._over:
            return
        self._publish(NextBootTaken(report.ended, mac, order.file))
        self._over.append(order)
        if not self._removing:
            self._remove()

    def _look(self) -> None:
        """See whether somebody has changed the file."""
        version = self._kept.version()
        if version == self._version:
            return
        try:
            self._orders = self._kept.read(_GLANCE)
        except Busy:
            return  # the next one who asks looks again
        except StateError as error:
            self._log.error("next boots stay as they were: {error}", error=error)
        self._version = version

    def _remove(self) -> None:
        """Take what is used up out of the file, in a thread: a disk takes its time."""
        batch = list(self._over)
        # What comes after close() has to be on disk before the process ends.
        threaded = self._running and IReactorFromThreads.providedBy(self._reactor)

        def remove() -> None:
            error = None
            try:
                self._kept.remove(batch)
            except StateError as caught:
                error = caught
            if threaded:
                self._reactor.callFromThread(self._removed, batch, error)
            else:
                self._removed(batch, error)

        self._removing = True
        if threaded:
            Thread(target=remove, name="next-boot", daemon=True).start()
        else:
            remove()

    def _removed(self, batch: list[Order], error: StateError | None) -> None:
        self._removing = False
        if error is not None:
            # They stay in _over, so that nobody boots twice while this process lives. The next one tries again.
            self._log.error("next boots are used up, but not for the next start of bootfw: {error}", error=error)
        else:
            del self._over[: len(batch)]
            self._orders = {mac: order for mac, order in self._orders.items() if order not in batch}
            if self._over:
                self._remove()
                return
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.callback(None)


def _answer(name: str, request: BootRequest) -> BootFile | None:
    """The BootFile for *name*, or None: this client can't load it, but what it becomes after this stage can."""
    if request.ipxe:
        # By a script of its own: that its file came from elsewhere, or by another's address, doesn't matter then.
        there = name if is_url(name) else f"/{requested_path(name)}"
        return script(FOLDER, f"#!ipxe\nchain --autofree --replace {there}\n", request)
    if requested_path(name).lower().endswith(".ipxe"):
        return None
    if not is_url(name):
        return BootFile(name)
    # Of what other servers give to firmware we would never learn.
    own = [url for url in (request.http_url, request.https_url) if url]
    return BootFile(name) if request.http and any(name.startswith(f"{url}/") for url in own) else None


plugin = boot_plugin(IBootFileResolver, NextBoot)
