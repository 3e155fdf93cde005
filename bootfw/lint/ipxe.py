"""Rules for iPXE scripts (ipxe.org/scripting, ipxe.org/cmd)."""

import re
from collections.abc import Iterator, Sequence

from attrs import frozen

from bootfw.lint.references import absent, local, without_initrd
from bootfw.lint.tree import Served, Tree
from bootfw.tftp.path import relative
from bootfw.values import Finding

_MAGIC = re.compile(rb"#!(ipxe|gpxe)[ \t\r\n]|#!(ipxe|gpxe)\Z")
_LOADING = ("chain", "kernel", "initrd", "module", "imgfetch", "imgload", "imgselect", "boot", "autoboot", "shim")
_WITH_VALUE = ("-n", "--name", "-t", "--timeout")
_UNSURE = ("goto", "choose", "prompt", "login", "shell", "exit", "boot", "sanboot", "poweroff", "reboot")
"""Commands after which it is not certain that the next line runs."""


@frozen
class _Statement:
    line: int
    words: Sequence[str]
    sure: bool
    """The statement always runs, and the script stops if it fails."""
    line_words: Sequence[str]
    """The words of the whole line, other statements included."""


def is_script(file: Served) -> bool:
    """Return whether *file* is an iPXE script, by its name or its first bytes."""
    return file.name.lower().endswith(".ipxe") or _MAGIC.match(file.head) is not None


def check_ipxe(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report a wrong first line, and files that the script names and that do not exist."""
    if not is_script(file):
        return
    if not _MAGIC.match(file.head):
        bom = file.head.startswith(b"\xef\xbb\xbf")
        yield Finding(
            file.host_path,
            "script",
            "it begins with a byte order mark, and so not with #!ipxe" if bom else "it does not begin with #!ipxe",
            "begin the file with #!ipxe: iPXE recognizes a script by these six characters",
        )
        return
    if not tree.complete:
        return
    kernel: tuple[int, Served | None, bool] | None = None
    more = False
    for statement in _statements(file):
        command, *_ = statement.words
        name = _name(statement.words)
        if command in ("initrd", "module", "imgfetch", "shim"):
            more = True
        if command not in _LOADING or not name:
            continue
        path = local(name)
        found = tree.nearest(relative(path), "" if path.startswith("/") else file.directory) if path else None
        if command == "kernel":
            kernel = statement.line, found, any(re.match(r"(root|nfsroot)=", word) for word in statement.words)
        is_image = command in ("boot", "imgload", "imgselect") and "/" not in name and "." not in name
        if path and found is None and statement.sure and not is_image:
            yield absent(tree, file, statement.line, path)
    if kernel is not None and not more and not kernel[2]:
        yield from without_initrd(tree, file, *kernel[:2])


def check_circles(tree: Tree) -> Iterator[Finding]:
    """Report scripts that always chain each other in a circle."""
    following = {file.path: (file, *after) for file in tree.files if is_script(file) and (after := _next(tree, file))}
    reported: set[str] = set()
    for start in following:
        chain: list[str] = []
        path = start
        while path in following and path not in chain:
            chain.append(path)
            path = following[path][2]
        if path in chain and path not in reported:
            cycle = chain[chain.index(path) :]
            reported.update(cycle)
            file, line, _ = following[path]
            chained = " and ".join(cycle[1:])
            yield Finding(
                f"{file.host_path}:{line}",
                "loop",
                f"it chains {chained}, which chains this script again" if chained else "it chains itself, without end",
                "end the script with a command that boots, or with exit",
            )


def _next(tree: Tree, file: Served) -> tuple[int, str] | None:
    """Return (line, path) of the script that *file* always chains; None: none, or it depends on a condition."""
    for statement in _statements(file):
        if any(word in _UNSURE or (word == "chain" and not statement.sure) for word in statement.line_words):
            return None
        if statement.words[0] == "chain":
            path = local(_name(statement.words))
            found = tree.nearest(relative(path), "" if path.startswith("/") else file.directory) if path else None
            return (statement.line, found.path) if found is not None else None
    return None


def _statements(file: Served) -> Iterator[_Statement]:
    text = file.data(1 << 20).decode("utf-8", "replace")
    line = ""
    for number, part in enumerate(text.splitlines(), 1):
        line += part.rstrip("\r")
        if line.endswith("\\"):
            line = line[:-1] + " "
            continue
        words, line = line.split(), ""
        if not words or words[0].startswith("#"):
            continue
        # "a || b && c": only the first statement always runs. Its failure ends the script only if it is the only one.
        joints = [index for index, word in enumerate(words) if word in ("||", "&&")]
        first = words[: joints[0]] if joints else words
        if first:
            yield _Statement(number, first, not joints, words)


def _name(words: Sequence[str]) -> str:
    """Return the first argument that is not an option; "": there is none."""
    arguments = iter(words[1:])
    for argument in arguments:
        if argument in _WITH_VALUE:
            next(arguments, None)
        elif not argument.startswith("-"):
            return argument
    return ""
