"""Copies the state of a server to memory, so that a command can use it without changing it."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from bootfw.build import order_store
from bootfw.cli.failure import CommandError
from bootfw.cli.offline import OfflineLeases, done
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import running, state_of
from bootfw.config.configuration import Configuration
from bootfw.errors import BootfwError
from bootfw.interfaces import IOfflineStore
from bootfw.records import Record, Selection, lease_of, reservation_of
from bootfw.resolvers.loop_breaker import LOOPS
from bootfw.resolvers.next_boot import ORDERS
from bootfw.stores.memory import MemoryStore


@define
class Snapshot:
    """Leases, reservations and one-time boots at one moment."""

    store: MemoryStore = field(factory=MemoryStore)
    notes: list[str] = field(factory=list)
    """What could not be read, a sentence each."""


def snapshot(configuration: Configuration) -> Snapshot:
    """Read the state of the running server, or the stored state if none runs."""
    result = Snapshot()
    state = state_of(configuration)
    try:
        server = running(state)
        if server is not None:
            _fill_from_server(result, server)
        else:
            _fill_from_store(result, configuration, state)
    except (OSError, BootfwError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        result.notes.append(f"leases and one-time boots in {state} can't be read, and are ignored here: {reason}")
    return result


def _fill_from_server(target: Snapshot, server: RunningServer) -> None:
    def records(operation: Callable[[], Iterable[Record]]) -> Sequence[Record]:
        try:
            return list(operation())
        except CommandError:
            return ()  # no plugin of its configuration has this operation

    _save_leases(target, records(lambda: server.leases(Selection())), records(server.reservations))
    next_boots = {
        record["mac"]: {"file": record["file"], "ordered": record["ordered"]} for record in records(server.next_boots)
    }
    now = time.time()
    loops = {
        record["mac"]: {"files": record["files"], "times": record["times"], "until": now + record["seconds"]}
        for record in records(lambda: server.call("looping"))
    }
    _save_orders(target, ORDERS, next_boots)
    _save_orders(target, LOOPS, loops)


def _fill_from_store(target: Snapshot, configuration: Configuration, state: Path) -> None:
    if not os.access(state, os.X_OK) and state.exists():
        raise PermissionError(13, os.strerror(13), os.fspath(state))
    _, store = order_store(configuration)
    if not IOfflineStore.providedBy(store) or not store.exists():
        return
    orders: Any = store
    leases = OfflineLeases(store, configuration.settings)
    _save_leases(target, leases.leases(Selection()), leases.reservations())
    for kind in (ORDERS, LOOPS):
        try:
            _save_orders(target, kind, orders.load_orders(kind))
        finally:
            done(orders.close_orders(kind))


def _save_leases(target: Snapshot, leases: Iterable[Record], reservations: Iterable[Record]) -> None:
    done(target.store.commit([lease_of(lease) for lease in leases]))
    stored = [
        reservation_of(reservation) for reservation in reservations if reservation.get("origin") != "configuration"
    ]
    done(target.store.save_reservations(stored))


def _save_orders(target: Snapshot, kind: str, orders: Mapping[str, Any]) -> None:
    done(target.store.save_orders(kind, dict(orders)))
