"""An IBM Z machine (s390x) with QEMU's network boot loader."""

from ..lab import Lab, Program, need
from ..qemu import Card, start_machine


def start_s390x_machine(lab: Lab, *, memory: int = 512, uuid: str = "") -> Program:
    need("/usr/share/qemu/s390-netboot.img")
    return start_machine(
        lab,
        "qemu-system-s390x",
        *("-machine", "s390-ccw-virtio"),
        *(("-uuid", uuid) if uuid else ()),
        cards=(Card("virtio-net-ccw", "bootindex=1"),),
        memory=memory,
        name="s390x",
    )
