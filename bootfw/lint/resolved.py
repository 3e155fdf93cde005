"""Rules for the boot files that resolvers name: they have to exist, and to fit the clients that get them."""

import re
from collections.abc import Iterator, Sequence

from bootfw.ability import provides
from bootfw.interfaces import IBootFileResolver, IListableResolver
from bootfw.lint.pe import read_program
from bootfw.lint.programs import LARGEST, NAMES, kind
from bootfw.lint.tree import Tree
from bootfw.tftp.path import relative
from bootfw.values import BootFile, Finding

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


def check_resolvers(tree: Tree, resolvers: Sequence[tuple[str, IBootFileResolver]]) -> Iterator[Finding]:
    """Check the files of the resolvers that list them."""
    for name, resolver in resolvers:
        if not provides(resolver, IListableResolver):
            continue
        for listed in resolver.boot_files():
            if listed.file.server is not None or listed.file.content is not None:
                continue  # it is on another server, or the resolver generates it
            source = f"[[resolver]] {name}" + (f", {listed.option}" if listed.option else "")
            yield from _check(tree, source, listed.architecture.removesuffix("-http"), listed.file.name)
            yield from _check_configuration(tree, source, listed.file)


def _check_configuration(tree: Tree, source: str, file: BootFile) -> Iterator[Finding]:
    """Report a missing configuration file of PXELINUX (RFC 5071): below the prefix, or else beside the program."""
    path = file.pathprefix + file.configfile
    if not file.configfile or not tree.complete or any(sign in path + file.name for sign in ("{", "$", "::", "://")):
        return
    if tree.nearest(relative(path), "" if path.startswith("/") else relative(file.name).rpartition("/")[0]) is None:
        yield Finding(source, "missing", f"its configfile is {path}, which is not there", "put it there")


def _check(tree: Tree, source: str, architecture: str, name: str) -> Iterator[Finding]:
    path = _OURS.sub("/", name, count=1)
    if "{" in path or "$" in path or "://" in path:
        return
    file = tree.find(relative(path))
    if file is None:
        if tree.complete:
            other = tree.other_spelling(relative(path), "")
            remedy = f"there is {other}: upper and lower case are not the same" if other else "put it there"
            yield Finding(source, "missing", f"it names {name}, which is not there", remedy)
        return
    if file.is_generated:
        return
    program = read_program(file)
    machine = _MACHINES.get(architecture, "")
    if program is None and machine and not _DISK.search(file.name):
        yield Finding(
            file.host_path,
            "program",
            f"{source} names it, and it is no UEFI program: it is {kind(file)}",
            f"name a program for {NAMES.get(machine, machine)}",
        )
    elif program is not None and machine and program.machine != machine:
        yield Finding(
            file.host_path,
            "architecture",
            f"{source} names it, and it is a program for {NAMES.get(program.machine, program.machine)}",
            f"name one for {NAMES.get(machine, machine)}",
        )
    elif program is not None and architecture == "x86-bios":
        yield Finding(
            file.host_path,
            "program",
            f"{source} names it, and it is a program for {NAMES.get(program.machine, program.machine)}",
            "BIOS starts programs such as undionly.kpxe and pxelinux.0",
        )
    if file.size > LARGEST and not _DISK.search(file.name) and architecture != "ipxe":
        yield Finding(
            file.host_path,
            "size",
            f"{source} names it, and {file.size} bytes are more than 65,535 blocks of 512",
            "firmware without larger blocks (blksize) can't fetch it by TFTP: load it by iPXE or GRUB",
        )
