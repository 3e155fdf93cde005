"""IBootObserver and IBatchObserver."""

import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import UnionType
from typing import Any

import attrs
from attrs import frozen
from zope.interface.verify import verifyObject

from bootfw import events
from bootfw.ability import provides
from bootfw.attempts.attempt import BootAttempt
from bootfw.events import Event
from bootfw.interfaces import IBatchObserver, IBootObserver, IStartable
from bootfw.lease import Lease, LeaseState
from bootfw.testing.contracts.answers import Answers
from bootfw.values import (
    Address,
    Agreed,
    BootFile,
    BootRequest,
    Outcome,
    SocketStatus,
    TransferReport,
    TransferRequest,
)

_REQUEST = TransferRequest("boot.ipxe", "boot.ipxe", ("192.0.2.9", 2070), local="192.0.2.1")

_EXAMPLES: Mapping[Any, object] = {
    bool: True,
    int: 1,
    float: 1.0,
    str: "\N{SNOWMAN} %s {} \udcff",  # clients choose some of these texts
    Address: ("192.0.2.9", 2070),
    tuple[str, ...]: ("one", "two"),
    tuple[tuple[str, int], ...]: (("one", 1),),
    tuple[Lease, ...]: (Lease("192.0.2.1", b"h\x01", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 3600),),
    Agreed: Agreed(),
    BootAttempt: BootAttempt("1", 1e9, 1e9 + 60, "52:54:00:12:34:56"),
    BootFile: BootFile("boot.ipxe"),
    BootRequest: BootRequest("52:54:00:12:34:56", "discover", "uefi", "x86_64-uefi", (7,)),
    SocketStatus: SocketStatus("tftp", ("192.0.2.1", 69), "eth0", "bound", "", 1.0),
    TransferReport: TransferReport(_REQUEST, Agreed(), Outcome.COMPLETE, "", 1000, 2, 0, 1.0, 2.0),
    TransferRequest: _REQUEST,
}
"""Type of a field -> a value of it."""


@frozen
class UnknownEvent(Event):
    """An event of a later version of bootfw, which may add kinds."""

    note: str = ""


def every_event() -> list[Event]:
    """Return an event of each kind, in the order of bootfw.events, and another one without its optional values."""
    found: list[Event] = []
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    for kind in kinds[1:]:  # the first is their base
        make: Any = kind
        types = typing.get_type_hints(kind)
        values = {each.name: _example(types[each.name]) for each in attrs.fields(kind)}
        least = {name: None if type(None) in typing.get_args(types[name]) else values[name] for name in values}
        found += (make(**values), make(**least))
    return found


def _example(annotation: Any) -> object:
    choices = typing.get_args(annotation) if isinstance(annotation, UnionType) else ()
    return _EXAMPLES[choices[0] if choices and choices[0] in _EXAMPLES else annotation]


class ObserverContract(Answers):
    """The tests of every observer. Override ``make_observer``."""

    def make_observer(self) -> IBootObserver:
        """Return an observer as the configuration would make it."""
        raise NotImplementedError

    def observed(self, *happened: Event) -> None:
        """Send these to an observer as the service does: all at once where it takes batches."""
        observer = self.make_observer()
        with self._started(observer):
            if provides(observer, IBatchObserver):
                observer.observe_many(happened)
            else:
                for event in happened:
                    observer.observe(event)

    @contextmanager
    def _started(self, observer: object) -> Iterator[None]:
        """Start and stop the observer as the service does."""
        if not provides(observer, IStartable):
            yield
            return
        observer.start(lambda event: None)
        yield
        self.answer(observer.close())

    def test_provides_the_interface(self) -> None:
        observer = self.make_observer()
        verifyObject(IBatchObserver if provides(observer, IBatchObserver) else IBootObserver, observer)

    def test_every_kind_of_event_is_accepted(self) -> None:
        for event in every_event():
            self.observed(event)

    def test_many_events_at_once_are_accepted(self) -> None:
        self.observed(*every_event() * 3)

    def test_event_of_a_later_version_is_accepted(self) -> None:
        self.observed(UnknownEvent(1.0))

    def test_events_are_accepted_one_by_one(self) -> None:
        """Also by an IBatchObserver, whose observe() is called by a wrapper that takes no batches."""
        observer = self.make_observer()
        with self._started(observer):
            for event in every_event():
                observer.observe(event)
