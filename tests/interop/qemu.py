"""Machines that are switched on and boot from the lab's segment, under QEMU without acceleration: the same everywhere.

What such a machine prints on its serial console is the output of the program, and what the program is typed is what it
reads there. Each kind of machine has its module in ``machines/``.
"""

import itertools
from pathlib import Path

from attrs import frozen

from .lab import Lab, Program, need

SECONDS = 300
"""How long to wait for a machine, while other tests keep the cores busy. It costs time only when a test fails."""

_serial = itertools.count(1)


@frozen
class Card:
    """A network card."""

    model: str = "virtio-net-pci"
    options: str = ""
    """More of QEMU's properties, such as ``romfile=,bootindex=1``."""
    mac: str = ""
    """Default: one that no other machine of this test run has."""
    plugged: bool = True
    """Whether its cable is in the lab's switch. It has a link in any case."""


def start_machine(
    lab: Lab, program: str, *options: str, cards: tuple[Card, ...], memory: int = 256, name: str = "machine"
) -> Program:
    """*program* is the QEMU of an architecture, *memory* in MiB, and *options* the rest of what is in the machine."""
    need(program)
    if lab.slot is not None:
        lab.slot.take()
    return lab.switch.start(
        # Its patience is in seconds, other tests have more of it: they give way.
        *("nice", "-n", "-5", program),
        *("-accel", "tcg", "-m", str(memory), "-nodefaults", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        *options,
        *(argument for number, card in enumerate(cards) for argument in _connect(lab, number, card)),
        name=name,
        keyboard=True,
    )


def _connect(lab: Lab, number: int, card: Card) -> list[str]:
    mac = card.mac or f"52:54:00:77:00:{next(_serial):02x}"
    netdev = f"tap,id=net{number},ifname={lab.tap(plugged=card.plugged)},script=no,downscript=no"
    device = ",".join(filter(None, (card.model, f"netdev=net{number},mac={mac}", card.options)))
    return ["-netdev", netdev, "-device", device]


def flash(path: Path, unit: int, *, writable: bool = False) -> list[str]:
    """QEMU's options for a flash chip with the content of a file."""
    options = f"if=pflash,unit={unit},format=raw,file={path}"
    return ["-drive", options if writable else f"{options},readonly=on"]
