"""An observer for tests."""

from typing import TypeVar

from attrs import define, field
from zope.interface import implementer

from bootfw.api import Event, IBootObserver

_E = TypeVar("_E", bound=Event)


@implementer(IBootObserver)
@define(eq=False)
class EventList:
    """Keeps the events that it observes."""

    events: list[Event] = field(factory=list)

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]
