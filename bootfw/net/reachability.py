"""Checks that clients can reach a listener by its address and its interfaces, and reports why not.

An in-memory reactor has addresses and interfaces of its own, so nothing is checked for it.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet

from bootfw.config.settings import ListenAddress
from bootfw.events import Event, InterfaceProblem
from bootfw.net.linux.interfaces import missing_interfaces, unusable_address

Publish = Callable[[Event], None]


def check_address(reactor: Any, address: ListenAddress) -> None:
    """Refuse an address that no interface of this host has.

    A UDP socket can be bound to it (IP_FREEBIND), but would never receive a request.

    :raise CannotListenError: ``socketError`` says why.
    """
    reason = unusable_address(address[0]) if IReactorFDSet.providedBy(reactor) else ""
    if reason:
        raise CannotListenError(*address, OSError(errno.EADDRNOTAVAIL, reason))


def report_missing(reactor: Any, names: Sequence[str], publish: Publish) -> None:
    """Publish which of the configured interfaces don't exist. They are served as soon as they do."""
    missing = missing_interfaces(names) if IReactorFDSet.providedBy(reactor) else {}
    for name, problem in missing.items():
        publish(
            InterfaceProblem(
                reactor.seconds(), name, f"{problem}; bootfw waits for it and serves no client there until then"
            )
        )


def report_dropped(reactor: Any, names: Sequence[str], publish: Publish, interface: str) -> None:
    """Publish that a request arrived on an interface that is not served; called once for each interface."""
    problem = f"requests that arrive on it are dropped: [bootfw] interfaces lists {', '.join(names)} only"
    publish(InterfaceProblem(reactor.seconds(), interface, problem))
