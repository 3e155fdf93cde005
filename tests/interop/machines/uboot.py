"""Boards with U-Boot."""

from functools import partial
from pathlib import Path

from attrs import frozen

from ..lab import Lab, Program, need
from ..qemu import Card, start_machine

_BUILDS = Path("/usr/lib/u-boot")


@frozen
class _Board:
    program: str
    machine: tuple[str, ...]
    build: str
    card: Card


_BOARDS = {
    "arm64": _Board(
        "qemu-system-aarch64",
        ("-machine", "virt", "-cpu", "cortex-a57"),
        "qemu_arm64/u-boot.bin",
        Card("virtio-net-pci", "romfile="),
    ),
    "arm32": _Board(
        "qemu-system-arm",
        ("-machine", "virt", "-cpu", "cortex-a15"),
        "qemu_arm/u-boot.bin",
        Card("virtio-net-pci", "romfile="),
    ),
    "riscv64": _Board(
        "qemu-system-riscv64", ("-machine", "virt"), "qemu-riscv64/u-boot.bin", Card("virtio-net-device")
    ),
    "x86": _Board("qemu-system-x86_64", ("-machine", "pc"), "qemu-x86/u-boot.rom", Card("e1000", "romfile=")),
}

_PROMPT = "=> "
_PROMPT_SECONDS = 60
_COMMAND_SECONDS = 120


def start_uboot_board(lab: Lab, kind: str = "arm64", *commands: str, memory: int = 512) -> Program:
    """*kind* is ``arm64``, ``arm32``, ``riscv64`` or ``x86``.

    With *commands* they are typed at its prompt, one after the other; without, it does what it does when left alone.
    """
    board = _BOARDS[kind]
    need(str(_BUILDS / board.build))
    console = start_machine(
        lab,
        board.program,
        *board.machine,
        *("-bios", str(_BUILDS / board.build)),
        cards=(board.card,),
        memory=memory,
        name=f"u-boot-{kind}",
    )
    if commands:
        console.wait_for("Hit any key to stop autoboot", _PROMPT_SECONDS)
        console.type("\n")
    for number, command in enumerate(commands, 1):
        # What is typed while a command runs gets lost: U-Boot looks for Ctrl-C then.
        console.wait_until(partial(_prompts, console, number), _COMMAND_SECONDS, "its prompt")
        console.type(f"{command}\n")
    return console


def _prompts(console: Program, number: int) -> bool:
    return console.output.count(_PROMPT) >= number
