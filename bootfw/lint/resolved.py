"""Boot files that resolvers name: whether they exist, and fit the machines that get them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bootfw.lint.finding import Finding
from bootfw.lint.pe import read_program
from bootfw.lint.programs import LARGEST, NAMES, kind
from bootfw.lint.tree import Tree
from bootfw.tftp.path import relative

_MACHINES = {
    "x86-uefi": "ia32",
    "x86_64-uefi": "x64",
    "arm64-uefi": "aa64",
    "arm32-uefi": "arm",
    "riscv64-uefi": "riscv64",
    "loongarch64-uefi": "loongarch64",
}
_OURS = re.compile(r"(?:\{https?\}|(?:tftp|https?)://\{server\}(?::\d+)?)/", re.IGNORECASE)
_DISK = re.compile(r"\.(iso|img)\Z", re.IGNORECASE)  # UEFI HTTP boot takes these for disks (UEFI 2.10 section 24.7.3)


def check_resolvers(tree: Tree, resolvers: Sequence[tuple[str, Any]]) -> Iterator[Finding]:
    """The files of the built-in resolvers."""
    for name, resolver in resolvers:
        server = getattr(resolver, "server", None)
        for architecture, entry, file in _named(resolver):
            what = f"[[resolver]] {name}" + (f", {entry}" if entry else "")
            if file.get("server", server) is None:  # else another server has it
                yield from _check(tree, what, architecture.removesuffix("-http"), file["file"])
                yield from _check_configuration(tree, what, file)


def _named(resolver: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(architecture or "", which of its entries or "", boot file) of what a resolver may answer with."""
    files = getattr(resolver, "files", None)
    if isinstance(files, dict):
        for architecture, file in files.items():
            yield architecture, architecture, file if isinstance(file, dict) else {"file": file}
    if isinstance(getattr(resolver, "file", None), str):
        keys = ("file", "server", "configfile", "pathprefix")
        yield "", "", {key: value for key in keys if (value := getattr(resolver, key, None))}
    for name in ("clients", "items"):
        entries = getattr(resolver, name, None)
        if isinstance(entries, list | tuple):
            for index, entry in enumerate(entries):
                if isinstance(entry, dict) and "file" in entry:
                    title = entry.get("description")
                    yield "", f"{name}[{index}]" + (f' "{title}"' if title else ""), entry


def _check_configuration(tree: Tree, what: str, file: Mapping[str, Any]) -> Iterator[Finding]:
    """PXELINUX' configuration file (RFC 5071): below the prefix, else beside the program."""
    name = file.get("configfile", "")
    path = file.get("pathprefix", "") + name
    if not name or not tree.complete or any(sign in path + file["file"] for sign in ("{", "$", "::", "://")):
        return
    if tree.nearest(relative(path), "" if path.startswith("/") else relative(file["file"]).rpartition("/")[0]) is None:
        yield Finding(what, "missing", f"its configfile is {path}, which is not there", "put it there")


def _check(tree: Tree, what: str, architecture: str, name: str) -> Iterator[Finding]:
    path = _OURS.sub("/", name, count=1)
    if "{" in path or "$" in path or "://" in path:
        return
    file = tree.find(relative(path))
    if file is None:
        if tree.complete:
            other = tree.other_spelling(relative(path), "")
            remedy = f"there is {other}: upper and lower case are not the same" if other else "put it there"
            yield Finding(what, "missing", f"it names {name}, which is not there", remedy)
        return
    if file.is_made:
        return
    program = read_program(file)
    machine = _MACHINES.get(architecture, "")
    if program is None and machine and not _DISK.search(file.name):
        yield Finding(
            file.where,
            "program",
            f"{what} names it, and it is no UEFI program: it is {kind(file)}",
            f"name a program for {NAMES.get(machine, machine)}",
        )
    elif program is not None and machine and program.machine != machine:
        yield Finding(
            file.where,
            "architecture",
            f"{what} names it, and it is a program for {NAMES.get(program.machine, program.machine)}",
            f"name one for {NAMES.get(machine, machine)}",
        )
    elif program is not None and architecture == "x86-bios":
        yield Finding(
            file.where,
            "program",
            f"{what} names it, and it is a program for {NAMES.get(program.machine, program.machine)}",
            "BIOS starts programs such as undionly.kpxe and pxelinux.0",
        )
    if file.size > LARGEST and not _DISK.search(file.name) and architecture != "ipxe":
        yield Finding(
            file.where,
            "size",
            f"{what} names it, and {file.size} bytes are more than 65,535 blocks of 512",
            "firmware that knows no larger blocks can't fetch it by TFTP: load it by iPXE or GRUB",
        )
