"""Rules for configurations of GRUB (GRUB manual, sections 6 and 16)."""

import re
import shlex
from collections.abc import Iterator

from bootfw.lint.references import absent, local, without_initrd
from bootfw.lint.tree import Served, Tree
from bootfw.tftp.path import relative
from bootfw.values import Finding

_CONFIGURATION = re.compile(r"grub\.cfg(-[0-9A-Fa-f-]+)?\Z")
_KERNEL = ("linux", "linux16", "linuxefi")
_INITRD = ("initrd", "initrd16", "initrdefi")
_FILES = (*_KERNEL, *_INITRD, "chainloader", "multiboot", "multiboot2", "devicetree")
"""Commands that fail if their file is missing. Not source and configfile: GRUB continues without that file, and the
configurations of distributions rely on it."""
_ELSEWHERE = ("search", "search.fs_uuid", "search.file", "search.fs_label", "loopback", "root", "set_root")
"""Commands after which a path may be on another device."""
_NETWORK = re.compile(r"\((tftp|http|pxe)[^)]*\)|\(?\$\{?root\}?\)?(?=/)")
_PREFIX = re.compile(r"\$\{?prefix\}?/")


def check_grub(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report files that a configuration names and that do not exist."""
    if not _CONFIGURATION.match(file.name) or not tree.complete:
        return
    text = file.data(1 << 20).decode("utf-8", "replace").replace("\\\n", "  ")
    conditions = 0  # depth of if/else blocks: a command inside one may never run
    elsewhere = False
    kernel: tuple[int, Served | None, bool] | None = None
    initrd = False
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words:
            continue
        if words[0] in ("menuentry", "submenu", "}", "function"):
            if kernel is not None and not initrd and not kernel[2]:
                yield from without_initrd(tree, file, kernel[0], kernel[1])
            kernel, initrd = None, False
            elsewhere = False if words[0] in ("menuentry", "}") else elsewhere
        elif words[0] in ("if", "for", "while", "until"):
            conditions += 1
        elif words[0] in ("fi", "done"):
            conditions -= 1
        elif words[0] in _ELSEWHERE or (words[0] == "set" and any(word.startswith("root=") for word in words[1:])):
            elsewhere = True
        elif words[0] in _FILES:
            names = _names(words)
            initrd = initrd or words[0] in _INITRD
            if elsewhere or conditions:
                continue
            for name in names:
                found = tree.nearest(relative(name), file.directory)
                if found is None:
                    yield absent(tree, file, number, name)
                elif words[0] in _KERNEL:
                    kernel = number, found, any(re.match(r"(root|nfsroot|initrd)=", word) for word in words)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quotation that continues on the next line
        return line.split()


def _names(words: list[str]) -> list[str]:
    """Return the files on this server that a statement names, except for paths that depend on a variable."""
    arguments = [word for word in words[1:] if not word.startswith("--")]
    if words[0] not in _INITRD:
        arguments = arguments[:1]
    names = [_PREFIX.sub("", _NETWORK.sub("", name, count=1), count=1) for name in arguments]
    return [path for name in names if "(" not in name and name[:1] != "+" and (path := local(name))]
