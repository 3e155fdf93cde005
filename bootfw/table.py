"""What the tables of state machines are made of, and how they are drawn.

A table says for every state and every input what happens: a transition, which returns the state that follows;
``ignore``; or ``illegal``. Each is a decision in its cell, there is no default. What a peer can do has a cell that
never raises; ``illegal`` is for what only a mistake in our own adapter can bring about.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from attrs import define, field

Transition = Callable[[Any, Any, float], Any]
"""(machine, the input's argument, now in seconds) -> the state that follows."""

Table = Mapping[Any, Mapping[Any, Transition]]

STAY = None
"""Among the successors of a transition: the state it came from."""

_T = TypeVar("_T", bound=Callable[..., Any])


class Key(enum.Enum):
    """What tables are looked up by: states and inputs."""

    # The members are singletons; Enum's own hash is a Python call, and every packet would pay for it.
    __hash__ = object.__hash__


class IllegalInput(Exception):
    """The adapter gave a machine an input that can't happen in its state: a bug of ours, never the peer's doing."""


def goes(*states: enum.Enum | None) -> Callable[[_T], _T]:
    """Note on a transition which states it can lead to. The function itself is not wrapped."""

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
    """Refuse to be imported with a hole in the table.

    :raise TypeError: a cell is missing, or its transition doesn't say where it goes.
    """
    for state in states:
        for event in inputs:
            cell = table.get(state, {}).get(event)
            if cell is None:
                raise TypeError(f"{state} has no cell for {event}")
            if cell not in (ignore, illegal) and not hasattr(cell, "successors"):
                raise TypeError(f"{state}, {event}: the transition does not say where it goes")


@define(eq=False)
class Machine:
    """What moves by a table. It holds no timer, socket or Deferred.

    The adapter tells it what happened by ``handle()``, and then does what stands in ``out``.
    """

    table: ClassVar[Table]

    state: Any
    out: list[Any] = field(factory=list, init=False)
    """What is to be done, in order; the adapter empties it."""

    def handle(self, event: enum.Enum, argument: Any = None, now: float = 0.0) -> None:
        """Take one input.

        :raise IllegalInput: it can't happen in this state.
        """
        self.state = self.table[self.state][event](self, argument, now)

    def run(
        self, do: Mapping[Any, Callable[[], None]], event: enum.Enum, argument: Any = None, now: float = 0.0
    ) -> None:
        """Take one input, and do what stands in ``out``.

        :param do: what to call for each; it may call this again, with another input.
        """
        self.handle(event, argument, now)
        while self.out:
            do[self.out.pop(0)]()


def drawing(table: Table, initial: Iterable[enum.Enum]) -> str:
    """The table as a Mermaid state diagram and as prose, in Markdown."""
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
    """The first sentence of a transition's docstring."""
    return " ".join((cell.__doc__ or "").split("\n\n")[0].split())
