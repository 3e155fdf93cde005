"""Rules for boot programs: the architecture, the kind of program, and the files that they load next."""

import re
from collections.abc import Iterator, Mapping

from bootfw.lint.pe import Program, read_program, second_stages
from bootfw.lint.tree import Served, Tree
from bootfw.values import Finding
from bootfw.wire.executable import MACHINES

NAMES: Mapping[str, str] = {
    "ia32": "32-bit x86 UEFI",
    "x64": "64-bit x86 UEFI",
    "aa64": "64-bit ARM UEFI",
    "arm": "32-bit ARM UEFI",
}

_BY_NAME = re.compile(
    r"(?:boot|bootnet|shim|grub|grubnet|gcd|mm|fb|systemd-boot|refind_)"
    r"(x64|ia32|aa64|arm|riscv64|loongarch64)\.efi(?:\.signed)?\Z",
    re.IGNORECASE,
)
_BY_SUFFIX: Mapping[str, str] = {"-i386.efi": "ia32", "-x86_64.efi": "x64", "-arm64.efi": "aa64", "-arm32.efi": "arm"}
# GRUB's platforms, and SYSLINUX's build directories.
_BY_DIRECTORY: Mapping[str, str] = {
    "i386-efi": "ia32",
    "x86_64-efi": "x64",
    "arm64-efi": "aa64",
    "arm-efi": "arm",
    "riscv64-efi": "riscv64",
    "loongarch64-efi": "loongarch64",
    "efi32": "ia32",
    "efi64": "x64",
}
_BIOS = re.compile(r"\.(0|kpxe|kkpxe|pxe)\Z|\A(pxelinux|lpxelinux)\.0|\Agrldr\Z", re.IGNORECASE)
_EFI = re.compile(r"\.efi(\.signed)?\Z", re.IGNORECASE)

LARGEST = 65535 * 512 - 1
"""Bytes: 65,535 TFTP blocks of 512, the last one not full."""

_SYSLINUX = re.compile(rb"(?:PXELINUX|Syslinux) (\d+)\.\d+ ")
_ELF = {b"\x7fELF\1": "32-bit", b"\x7fELF\2": "64-bit"}
_NEEDED = re.compile(rb"\0(lib\w+\.c32)(?=\0)")


def check_program(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report a program whose headers contradict its name or directory."""
    program = read_program(file)
    if program is not None and file.size < program.length:
        yield cut_off(file, program.length)
        return
    if _EFI.search(file.name):
        if program is None:
            yield Finding(
                file.host_path,
                "program",
                f"it has the name of a UEFI program, and is {kind(file)}",
                "replace it by the program, for instance from the package again",
            )
            return
        expected = _machine(file)
        if expected and program.machine != expected:
            yield Finding(
                file.host_path,
                "architecture",
                f"it is a program for {_name(program.machine)}, and its name or directory says {_name(expected)}",
                f"put a program for {_name(expected)} there",
            )
    elif program is not None and _BIOS.search(file.name):
        yield Finding(
            file.host_path,
            "program",
            f"it is a program for {_name(program.machine)}, and has the name of a BIOS program",
            "BIOS starts programs such as pxelinux.0 and undionly.kpxe",
        )
    if program is not None and _EFI.search(file.name):
        yield from _second_stage(tree, file, program)


def check_syslinux(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report a PXELINUX or SYSLINUX without its ldlinux.* of the same version, or with modules of another build."""
    if not (_EFI.search(file.name) or _BIOS.search(file.name)):
        return
    data = file.data(1 << 20)
    version = _SYSLINUX.search(data)
    if version is None:
        return
    elf = int(version[1]) >= 5  # since this version modules are ELF objects, and the core needs ldlinux
    half = next((name for name in ("ldlinux.e64", "ldlinux.e32") if name.encode() in data), "ldlinux.c32")
    found = None
    for directory in tree.directories_of(file):
        found = found or tree.find(_join(directory, half))
    if found is None and elf and tree.complete:
        yield Finding(
            file.host_path,
            "ldlinux",
            f"{half} is missing beside it, and it can't run without it",
            f"put the {half} of SYSLINUX {version[0].split()[1].decode()} there",
        )
    modules = [found] if found and not found.is_generated else []
    modules += [found for name in ("menu.c32", "vesamenu.c32") if (found := tree.find(_join(file.directory, name)))]
    for module in modules:
        if (module.head[:5] in _ELF) != elf:
            yield Finding(
                module.host_path,
                "ldlinux",
                f"its version is not that of {file.host_path}, which is {version[0].decode().strip()}",
                "take all files of SYSLINUX from the same version",
            )
        elif elf and _ELF[module.head[:5]] != ("64-bit" if half == "ldlinux.e64" else "32-bit"):
            yield Finding(
                module.host_path,
                "architecture",
                f"it is {_ELF[module.head[:5]]} code, which {file.host_path} can't load",
                "take the modules of bios, efi32 or efi64 that belong to the program",
            )


def check_module(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report a module of SYSLINUX whose libraries are not beside it."""
    if not file.name.lower().endswith(".c32") or file.head[:4] != b"\x7fELF" or not tree.complete:
        return
    for needed in sorted({name.decode() for name in _NEEDED.findall(file.data(4 << 20))}):
        if not any(tree.find(_join(directory, needed)) for directory in tree.directories_of(file)):
            yield Finding(
                file.host_path,
                "module",
                f"it needs {needed}, which is not beside it",
                f"put the {needed} of the same version there",
            )


def kind(file: Served) -> str:
    """Return the kind of a file for a message, such as "an iPXE script"."""
    head = file.head
    kinds = {
        b"": "empty",
        b"\x7fELF": "an ELF object",
        b"\x1f\x8b": "compressed by gzip",
        b"#!ipxe": "an iPXE script",
        b"PK\3\4": "a zip archive",
        b"<": "HTML: perhaps an error page that was saved instead of the file",
        b"MZ": "a DOS program",
    }
    if not head:
        return kinds[b""]
    for magic, description in kinds.items():
        if magic and head.lstrip().startswith(magic):
            return description
    return "text" if b"\0" not in head and head.isascii() else "a BIOS program or something else"


def cut_off(file: Served, expected: int) -> Finding:
    """Return the finding about a file that is shorter than its headers say."""
    return Finding(
        file.host_path,
        "cut-off",
        f"it is cut off: its headers say {expected} bytes, and there are {file.size}",
        "copy or download it again",
    )


def _second_stage(tree: Tree, file: Served, program: Program) -> Iterator[Finding]:
    for name in second_stages(file):
        found = None
        for directory in tree.directories_of(file):
            found = found or tree.find(_join(directory, name))
        if found is None and tree.complete:
            yield Finding(
                file.host_path,
                "shim",
                f"it is a shim, and {name}, which it loads next, is not beside it",
                f"put the {name} of the same distribution there (Debian: grubnetx64.efi.signed under that name)",
            )
        second = read_program(found) if found is not None else None
        if found is None or second is None:
            continue  # missing, or no program: check_program() reports that file
        if second.machine != program.machine:
            yield Finding(
                found.host_path,
                "architecture",
                f"it is a program for {_name(second.machine)}, and {file.host_path}, which loads it, is one for "
                f"{_name(program.machine)}",
                "put the program of the same architecture there",
            )
        elif program.signed and not second.signed:
            yield Finding(
                found.host_path,
                "unsigned",
                f"{file.host_path} loads it, and refuses it with Secure Boot on, because it has no signature",
                "put one there that is signed with a key that this shim trusts, usually its own distribution's",
            )


def _machine(file: Served) -> str:
    """Return the machine that the name or directory of a program stands for; "": none."""
    if found := _BY_NAME.search(file.name):
        return found[1].lower()
    for suffix, machine in _BY_SUFFIX.items():
        if file.name.lower().endswith(suffix):
            return machine
    return _BY_DIRECTORY.get(file.directory.rpartition("/")[2], "")


def _name(machine: str) -> str:
    return NAMES.get(machine, f"{machine} UEFI" if machine in MACHINES.values() else f"machine {machine}")


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
