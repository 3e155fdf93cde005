"""The machines as an operator sees them while the service runs: lists them, and changes their entries."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.ability import provides
from bootfw.config.settings import MachineSettings
from bootfw.errors import StateError
from bootfw.events import Event
from bootfw.interfaces import IHostBackend, IImageBackend, IOperable, IOrderStore, IStartable
from bootfw.inventory import (
    BOOTS,
    KIND,
    Entry,
    Selection,
    Sources,
    change,
    check_image,
    entry_of,
    inventory_records,
    mac_of,
)
from bootfw.net.control import Operation
from bootfw.observe.inthread import in_thread
from bootfw.records import Record


@implementer(IStartable, IOperable)
@define(eq=False)
class Machines:
    """Joins the boots, leases and orders of a service with the entries in its store.

    :param reactor: if it has threads, host files are read in one of them.
    :param operations: returns the operations of the service, which have the boots, leases and orders.
    :param backends: returns (name, backend) of the service, for host files.
    :param configured: returns the ``[[machine]]`` tables of the configuration. A backend with host files has them too,
        merged with the files of their groups.
    """

    _reactor: Any
    _store: IOrderStore
    _operations: Callable[[], Mapping[str, Operation]]
    _backends: Callable[[], Iterable[tuple[str, Any]]]
    _configured: Callable[[], Iterable[MachineSettings]]
    _entries: dict[str, Entry] = field(factory=dict, init=False)
    """By MAC."""
    _unreadable: str = field(default="", init=False)
    """Why the entries can't be read, and none can be changed; "": they were read."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable. A server without leases serves without the entries, too: a second one on a host has none."""
        try:
            self._entries = {mac: entry_of(mac, stored) for mac, stored in self._store.load_orders(KIND).items()}
        except StateError as error:
            self._entries, self._unreadable = {}, str(error)
            self._log.warn("the names, tags and images of machines can't be read: {reason}", reason=self._unreadable)
        else:
            self._unreadable = ""

    def close(self) -> "Deferred[None]":
        """See IStartable."""
        return self._store.close_orders(KIND)

    def operations(self) -> Mapping[str, Operation]:
        """See IOperable."""
        return {
            "machines": self._list,
            "set-machine": self._set,
            "forget-machine": self._forget,
            "images": self._images,
        }

    def _list(self, arguments: Mapping[str, Any]) -> "Deferred[list[Record]]":
        """Return the machines that are selected; see Selection. ``limit``: at most so many."""
        return self._find(Selection.of(arguments)).addCallback(
            lambda found: found[: int(arguments.get("limit", BOOTS))]
        )

    def _find(self, selection: Selection, also: Sequence[str] = ()) -> "Deferred[list[Record]]":
        """Return the machines that are selected. Those in *also* get a record in any case."""
        operations = self._operations()

        def call(name: str, **arguments: object) -> "Deferred[Iterable[Record]]":
            return maybeDeferred(operations[name], arguments) if name in operations else succeed(())

        mac = selection.mac
        results = [
            call("boots", limit=BOOTS, machine=mac),
            call("leases", who=mac),
            call("reservations"),
            call("next"),
        ]

        def joined(records: Sequence[Iterable[Record]]) -> "Deferred[Sequence[Record]]":
            boots, leases, reservations, next_boots = map(list, records)
            hosts = [backend for _, backend in self._backends() if provides(backend, IHostBackend)]
            tables = {key: each.host for each in reversed(tuple(self._configured())) for key in each.mac + each.uuid}

            def host(mac: str, uuid: str) -> Mapping[str, object]:
                found = next(filter(None, (each.host(mac, uuid) for each in hosts)), {})
                return found or tables.get(mac) or tables.get(uuid) or {}

            sources = Sources(boots, dict(self._entries), leases, reservations, next_boots, host)
            return in_thread(self._reactor, lambda: inventory_records(sources, also))

        def selected(records: Sequence[Record]) -> list[Record]:
            return [record for record in records if selection.has(record)]

        return gatherResults(results, consumeErrors=True).addCallback(joined).addCallback(selected)

    def _set(self, arguments: Mapping[str, Any]) -> "Deferred[list[Record]]":
        """Change what is set for a machine; see change(). Returns its record."""
        change(self._entries, arguments)  # raises its errors before the search for images, which may take long

        def checked(names: Sequence[str]) -> "Deferred[list[Record]]":
            check_image(arguments, names)
            mac, entry = change(self._entries, arguments)
            return self._save(mac, entry).addCallback(lambda _: self._find(Selection(mac), [mac]))

        names = self._image_names() if arguments.get("image") else succeed([])
        return names.addCallback(checked)

    def _images(self, arguments: Mapping[str, Any]) -> "Deferred[list[Record]]":
        """Return the names of the images that a machine can be for."""
        return self._image_names().addCallback(lambda names: [{"name": name} for name in names])

    def _image_names(self) -> "Deferred[Sequence[str]]":
        backends = [backend for _, backend in self._backends() if provides(backend, IImageBackend)]
        return in_thread(self._reactor, lambda: sorted({name for each in backends for name in each.image_names()}))

    def _forget(self, arguments: Mapping[str, Any]) -> "Deferred[list[Record]]":
        """Remove what is set for a machine. Returns its record, as it was; without any, there was nothing to remove."""
        mac = mac_of(arguments)
        if mac not in self._entries:
            return succeed([])
        before = self._find(Selection(mac))
        return before.addCallback(lambda records: self._save(mac, Entry()).addCallback(lambda _: records))

    def _save(self, mac: str, entry: Entry) -> "Deferred[None]":
        """Store *entry*. It is used at once, since the next change builds on it, and undone if it can't be stored."""
        if self._unreadable:
            raise StateError(self._unreadable)
        before = self._entries.get(mac, Entry())
        self._keep(mac, entry)

        def failed(failure: Failure) -> Failure:
            if self._entries.get(mac, Entry()) == entry:
                self._keep(mac, before)
            return failure

        return self._store.save_orders(KIND, {mac: entry.stored()}).addErrback(failed)

    def _keep(self, mac: str, entry: Entry) -> None:
        if entry == Entry():
            self._entries.pop(mac, None)
        else:
            self._entries[mac] = entry
