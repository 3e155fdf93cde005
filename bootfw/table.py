"""State machines as tables: their parts, the machine that runs one, and the drawing of a table.

A table has a cell for every state and every input: a transition, which returns the next state; ``ignore``; or
``illegal``. There is no default, so each cell is a decision. A cell for what a peer can do never raises; ``illegal`` is
for inputs that only a bug in our own adapter can give.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from attrs import define, field

Transition = Callable[[Any, Any, float], Any]
"""(machine, argument of the input, now in seconds) -> the next state."""

Table = Mapping[Any, Mapping[Any, Transition]]
"""State -> input -> transition."""

STAY = None
"""Among the successors of a transition: the present state."""

_T = TypeVar("_T", bound=Callable[..., Any])


class Key(enum.Enum):
    """Base class of states and inputs, the keys of tables."""

    # Members are singletons, so identity is enough. Enum.__hash__ is a Python function, which would be called for every
    # packet.
    __hash__ = object.__hash__


class IllegalInput(Exception):
    """The adapter gave a machine an input that is impossible in its state. This is a bug of ours, never of a peer."""


def goes(*states: enum.Enum | None) -> Callable[[_T], _T]:
    """Decorate a transition with the states that it can return, for the drawing. The function is not wrapped."""

    def tag(function: _T) -> _T:
        function.successors = states  # type: ignore[attr-defined]
        return function

    return tag


def ignore(machine: Any, argument: Any, now: float) -> Any:
    """Ignored."""
    return machine.state


def illegal(machine: Any, argument: Any, now: float) -> Any:
    """Can't happen: raises."""
    raise IllegalInput(f"{argument!r} in {machine.state}")


def check(table: Table, states: Iterable[enum.Enum], inputs: Iterable[enum.Enum]) -> None:
    """Verify that *table* is complete. Called when its module is imported.

    :raise TypeError: a cell is missing, or its transition does not declare its successors.
    """
    for state in states:
        for event in inputs:
            cell = table.get(state, {}).get(event)
            if cell is None:
                raise TypeError(f"{state} has no cell for {event}")
            if cell not in (ignore, illegal) and not hasattr(cell, "successors"):
                raise TypeError(f"{state}, {event}: the transition does not declare its successors, see goes()")


@define(eq=False)
class Machine:
    """A state machine that is driven by a table. It has no timer, socket or Deferred.

    The adapter passes each input to ``handle()``, and then does the actions in ``out``.
    """

    table: ClassVar[Table]

    state: Any
    out: list[Any] = field(factory=list, init=False)
    """Actions to be done, in order; the adapter removes them."""

    def handle(self, event: enum.Enum, argument: Any = None, now: float = 0.0) -> None:
        """Take an input: call the transition, and enter the state that it returns.

        :raise IllegalInput: the input is impossible in this state.
        """
        self.state = self.table[self.state][event](self, argument, now)

    def run(
        self, do: Mapping[Any, Callable[[], None]], event: enum.Enum, argument: Any = None, now: float = 0.0
    ) -> None:
        """Take an input, and do the actions in ``out``.

        :param do: action -> function, which may call this method again with another input.
        """
        self.handle(event, argument, now)
        while self.out:
            do[self.out.pop(0)]()


def drawing(table: Table, initial: Iterable[enum.Enum]) -> str:
    """Draw a table as a Mermaid state diagram, followed by a list of its cells, in Markdown."""
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {state.name}" for state in initial)]
    for state, row in table.items():
        arrows: dict[str, list[str]] = {}
        for event, cell in row.items():
            for after in getattr(cell, "successors", ()):
                arrows.setdefault((after or state).name, []).append(event.name)
        lines += [f"    {state.name} --> {after}: {', '.join(events)}" for after, events in arrows.items()]
        if not arrows:
            lines.append(f"    {state.name} --> [*]")
    lines += ["```", ""]
    for state, row in table.items():
        lines += [f"**{state.name}**", ""]
        lines += [f"* {event.name}: {_described(cell)}" for event, cell in row.items()]
        lines.append("")
    return "\n".join(lines)


def _described(cell: Transition) -> str:
    """Return the first paragraph of a transition's docstring."""
    return " ".join((cell.__doc__ or "").split("\n\n")[0].split())
