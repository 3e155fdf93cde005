"""bootfw.table: which tables are valid, and their drawings."""

import enum
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from bootfw.cli.statemachines import MACHINES, machines
from bootfw.table import STAY, IllegalInput, Machine, Table, check, drawing, goes, ignore, illegal

ROOT = Path(__file__).parents[1]


class State(enum.Enum):
    OPEN = 1
    CLOSED = 2


class Input(enum.Enum):
    SHUT = 1
    LOOK = 2


@goes(STAY, State.CLOSED)
def shut(session: object, argument: object, now: float) -> State:
    """Close it.

    This part is for the reader of the code.
    """
    return State.CLOSED


def untagged(session: object, argument: object, now: float) -> State:
    return State.CLOSED


TABLE: Table = {
    State.OPEN: {Input.SHUT: shut, Input.LOOK: illegal},
    State.CLOSED: {Input.SHUT: ignore, Input.LOOK: ignore},
}


def test_a_total_table_passes() -> None:
    check(TABLE, State, Input)


def test_a_missing_cell_is_refused() -> None:
    table = {State.OPEN: {Input.SHUT: shut}, State.CLOSED: TABLE[State.CLOSED]}
    with pytest.raises(TypeError, match=r"State\.OPEN has no cell for Input\.LOOK"):
        check(table, State, Input)


def test_a_missing_row_is_refused() -> None:
    with pytest.raises(TypeError, match=r"State\.CLOSED has no cell for Input\.SHUT"):
        check({State.OPEN: TABLE[State.OPEN]}, State, Input)


def test_transition_without_successors_is_refused() -> None:
    table = {State.OPEN: {Input.SHUT: untagged, Input.LOOK: ignore}, State.CLOSED: TABLE[State.CLOSED]}
    with pytest.raises(TypeError, match="does not declare its successors"):
        check(table, State, Input)


def test_goes_does_not_wrap() -> None:
    assert goes(State.CLOSED)(untagged) is untagged


def test_illegal_input_error_names_state_and_argument() -> None:
    class Session:
        state = State.OPEN

    with pytest.raises(IllegalInput, match=r"'argument' in State\.OPEN"):
        illegal(Session(), "argument", 0.0)


def test_drawing_of_a_table() -> None:
    assert drawing(TABLE, [State.OPEN]) == "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> OPEN",
            "    OPEN --> OPEN: SHUT",
            "    OPEN --> CLOSED: SHUT",
            "    CLOSED --> [*]",
            "```",
            "",
            "**OPEN**",
            "",
            "* SHUT: Close it.",
            "* LOOK: Can't happen: raises.",
            "",
            "**CLOSED**",
            "",
            "* SHUT: Ignored.",
            "* LOOK: Ignored.",
            "",
        ]
    )


@pytest.mark.parametrize("table", [machine.table for machine in MACHINES], ids=[each.title for each in MACHINES])
def test_each_transition_is_explained(table: Table) -> None:
    assert all(cell.__doc__ for row in table.values() for cell in row.values())


def test_the_drawing_in_the_docs_is_not_stale() -> None:
    documented = (ROOT / "docs" / "state-machines.md").read_text()
    assert documented == machines(), "run: python -m bootfw.cli.statemachines > docs/state-machines.md"


def test_the_command_prints_the_drawings() -> None:
    command = [sys.executable, "-m", "bootfw.cli.statemachines"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == machines()
    assert printed.stderr == ""


def test_run_does_the_actions_which_may_give_further_inputs() -> None:
    class Door(Machine):
        table: ClassVar[Table]

    @goes(STAY)
    def look(door: Door, argument: str, now: float) -> State:
        door.out += [argument, "then"]
        return State.OPEN

    Door.table = {**TABLE, State.OPEN: {Input.SHUT: shut, Input.LOOK: look}}
    door = Door(State.OPEN)
    calls: list[tuple[str, State]] = []

    def first() -> None:
        calls.append(("first", door.state))
        door.run(do, Input.SHUT)

    do = {"first": first, "then": lambda: calls.append(("then", door.state))}
    door.run(do, Input.LOOK, "first", 1.0)
    assert calls == [("first", State.OPEN), ("then", State.CLOSED)]
    assert door.out == []
