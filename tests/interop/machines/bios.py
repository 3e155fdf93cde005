"""PCs with SeaBIOS, and with the PXE ROM that QEMU has for their network card: iPXE."""

from ..lab import Lab, Program
from ..qemu import Card, start_machine


def start_bios_machine(
    lab: Lab, *models: str, cards: tuple[Card, ...] = (), memory: int = 256, uuid: str = ""
) -> Program:
    """*models* of network cards (``e1000``) in short, or *cards* in full. It tries them in this order, then halts."""
    return start_machine(
        lab,
        "qemu-system-x86_64",
        *("-machine", "pc,graphics=off", "-boot", "n"),
        *(("-uuid", uuid) if uuid else ()),
        cards=cards or tuple(Card(model) for model in models),
        memory=memory,
    )
