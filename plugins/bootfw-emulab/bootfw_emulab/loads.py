"""Keeps which nodes have loaded the images of their host files, over restarts of the server."""

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.api import IOrderStore
from bootfw_emulab.node import Node

KIND = "emulab-load"
"""The kind of orders in the store, by MAC: the digest of the images that the node has loaded."""


@define(eq=False)
class Loads:
    """The pending loads. A load is pending from when the host file has it until the node reports that it is done.

    :param store: None: what was loaded is forgotten when the process ends.
    """

    _store: "IOrderStore | None"
    _done: dict[str, str] = field(factory=dict, init=False)
    """MAC -> digest of the images that were loaded last."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)

    def start(self) -> None:
        """Read the store.

        :raise StateError: it can't be read.
        """
        stored: Mapping[str, Any] = {} if self._store is None else self._store.load_orders(KIND)
        self._done = {mac: str(order.get("loaded", "")) for mac, order in stored.items()}

    def close(self) -> "Deferred[None]":
        """Release the store."""
        return succeed(None) if self._store is None else self._store.close_orders(KIND)

    def is_pending(self, node: Node) -> bool:
        """Return whether the node has to load images."""
        digest = node.table.load_digest
        return bool(digest) and self._done.get(node.mac or node.name) != digest

    def done(self, node: Node) -> None:
        """Record that the node has loaded the images that its host file has now."""
        digest = node.table.load_digest
        if not digest:
            return
        self._done[node.mac or node.name] = digest
        self._save(node, {"loaded": digest})

    def again(self, node: Node) -> None:
        """Have the node load its images again, if it has loaded them."""
        if self._done.pop(node.mac or node.name, None) is not None:
            self._save(node, None)

    def _save(self, node: Node, order: Mapping[str, object] | None) -> None:
        if node.mac and self._store is not None:
            self._store.save_orders(KIND, {node.mac: order}).addErrback(self._not_saved, node)

    def _not_saved(self, failure: Failure, node: Node) -> None:
        self._log.error(
            "whether {node} has loaded its images can't be stored, and is forgotten at a restart: {why}",
            node=node.name,
            why=failure.value,
        )
