"""What the session tables are made of, and how they are drawn.

A table says for every state and every input what happens: a transition, which returns the state that follows;
``ignore``; or ``illegal``. Each is a decision in its cell, there is no default. What a peer can do has a cell that
never raises; ``illegal`` is for what only a mistake in our own adapter can bring about.

``python -m bootfw.tftp.table > docs/machines.md`` draws both machines.
"""

import enum
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Transition = Callable[[Any, Any, float], Any]
"""(session, the input's argument, now) -> the state that follows."""

Table = Mapping[Any, Mapping[Any, Transition]]

STAY = None
"""Among the successors of a transition: the state it came from."""

_T = TypeVar("_T", bound=Callable[..., Any])


class Key(enum.Enum):
    """What tables are looked up by: states and inputs."""

    # The members are singletons; Enum's own hash is a Python call, and every packet would pay for it.
    __hash__ = object.__hash__


class IllegalInput(Exception):
    """The adapter gave a session an input that can't happen in its state: a bug of ours, never the peer's doing."""


def goes(*states: enum.Enum | None) -> Callable[[_T], _T]:
    """Note on a transition which states it can lead to. The function itself is not wrapped."""

    def tag(function: _T) -> _T:
        function.successors = states  # type: ignore[attr-defined]
        return function

    return tag


def ignore(session: Any, argument: Any, now: float) -> Any:
    """Ignored."""
    return session.state


def illegal(session: Any, argument: Any, now: float) -> Any:
    """Can't happen: raises."""
    raise IllegalInput(f"{argument!r} in {session.state}")


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
        lines += [f"* {event.name}: {_said(cell)}" for event, cell in row.items()]
        lines.append("")
    return "\n".join(lines)


def _said(cell: Transition) -> str:
    """The first sentence of a transition's docstring."""
    return " ".join((cell.__doc__ or "").split("\n\n")[0].split())


def machines() -> str:
    """docs/machines.md."""
    from bootfw.tftp import read, write

    return "\n".join(
        [
            "# The session machines",
            "",
            "Drawn from the tables in `bootfw/tftp/read.py` and `bootfw/tftp/write.py` by",
            "`python -m bootfw.tftp.table > docs/machines.md`. A test fails when this file is not what that prints.",
            "",
            "## ReadSession: we send a file",
            "",
            drawing(read.TABLE, (read.State.NEGOTIATING, read.State.FETCHING)),
            "## WriteSession: we receive a file",
            "",
            drawing(write.TABLE, (write.State.NEGOTIATING,)),
        ]
    )


if __name__ == "__main__":
    # Not this copy of the module but the one that the sessions know: `ignore` must be the same function.
    from bootfw.tftp.table import machines as drawn

    sys.stdout.write(drawn())
