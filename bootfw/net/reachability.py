"""Whether clients can reach what listens: its address and its interfaces, and what is said where they can't.

An in-memory reactor has addresses and interfaces of its own, so nothing is checked there.
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
    """A UDP socket can be bound to an address that is not there (IP_FREEBIND), where no request would ever arrive.

    :raise CannotListenError: this host does not have it.
    """
    reason = unusable_address(address[0]) if IReactorFDSet.providedBy(reactor) else ""
    if reason:
        raise CannotListenError(*address, OSError(errno.EADDRNOTAVAIL, reason))  # type: ignore[no-untyped-call]


def report_missing(reactor: Any, names: Sequence[str], publish: Publish) -> None:
    """Publish which of the listed interfaces don't exist. They are served from when they do."""
    missing = missing_interfaces(names) if IReactorFDSet.providedBy(reactor) else {}
    for name, problem in missing.items():
        waiting = f"{problem}; bootfw waits for it and serves no client there until then"
        publish(InterfaceProblem(reactor.seconds(), name, waiting))


def report_dropped(reactor: Any, names: Sequence[str], publish: Publish, interface: str) -> None:
    """Publish that a request has come by an interface that is not served: the first one there."""
    problem = f"requests that arrive on it are dropped: [bootfw] interfaces lists {', '.join(names)} only"
    publish(InterfaceProblem(reactor.seconds(), interface, problem))
