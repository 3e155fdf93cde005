"""PCs with SeaBIOS, and with the PXE ROM that QEMU has for their network card: iPXE."""

from pathlib import Path

from ..lab import Lab, Program
from ..qemu import Card, start_machine
from .disks import usb_disk_options


def start_bios_machine(
    lab: Lab,
    *models: str,
    cards: tuple[Card, ...] = (),
    memory: int = 256,
    uuid: str = "",
    usb_disk: Path | None = None,
) -> Program:
    """*models* of network cards (``e1000``) in short, or *cards* in full. It tries them in this order, then halts.

    *installed*: see ``installed_disk()``; give the cards a ``bootindex``.
    """
    return start_machine(
        lab,
        "qemu-system-x86_64",
        *("-machine", "pc,graphics=off", "-boot", "n"),
        *(("-uuid", uuid) if uuid else ()),
        *(usb_disk_options(usb_disk) if usb_disk else ()),
        cards=cards or tuple(Card(model) for model in models),
        memory=memory,
    )
