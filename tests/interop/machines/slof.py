"""A POWER machine (ppc64) with SLOF, an Open Firmware."""

from ..lab import Lab, Program, need
from ..qemu import Card, start_machine

_CARD = Card("spapr-vlan")


def start_slof_machine(lab: Lab, *, card: Card = _CARD, memory: int = 512) -> Program:
    need("/usr/share/qemu/slof.bin")
    return start_machine(
        lab, "qemu-system-ppc64", "-machine", "pseries", "-boot", "n", cards=(card,), memory=memory, name="slof"
    )
