"""Rules for configurations of PXELINUX: ``pxelinux.cfg/*`` (wiki.syslinux.org/wiki/index.php?title=Config)."""

from collections.abc import Generator, Iterator

from attrs import define, field

from bootfw.lint.references import absent, local, without_initrd
from bootfw.lint.tree import Served, Tree
from bootfw.tftp.path import relative
from bootfw.values import Finding

_NESTED = 16  # as deep as PXELINUX includes, com32/elflink/ldlinux/readconfig.c MAX_INCLUDE_DEPTH
_EXTENSIONS = ("", ".0", ".bin", ".bs", ".bss", ".c32", ".cbt", ".com", ".img")
"""Suffixes that PXELINUX tries in turn if a kernel's own name does not exist."""
_KERNELS = ("kernel", "linux", "boot", "bss", "pxe", "com32", "config", "fdt")
_DIRECTORY = "pxelinux.cfg"


def check_pxelinux(tree: Tree, file: Served) -> Iterator[Finding]:
    """Report files that a configuration names and that do not exist."""
    above, _, last = file.directory.rpartition("/")
    if last == _DIRECTORY and tree.complete:
        yield from _Reading(tree, above).read(file, 0)


@define
class _Label:
    line: int
    kernel: Served | None = None
    """The kernel, if it is loaded by the boot protocol of Linux."""
    initrd: bool = False
    root: bool = False
    """The command line has root=, which a kernel may mount without an initrd."""


@define
class _Reading:
    tree: Tree
    directory: str
    """The directory of PXELINUX, which names are relative to."""
    path: list[str] = field(factory=list)
    """Further directories where PXELINUX looks for modules."""
    labels: dict[str, _Label] = field(factory=dict)
    default: tuple[Served, int, str] | None = None
    label: _Label | None = None

    def read(self, file: Served, depth: int) -> Iterator[Finding]:
        text = file.data(1 << 20).decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                yield from self._statement(file, number, [words[0].lower(), *words[1:]], depth)
        yield from self._label_ends(file)
        if depth == 0 and self.default is not None:
            source, number, name = self.default
            if name not in self.labels and name.endswith(".c32"):
                yield from self._named_file(source, number, name)

    def _statement(self, file: Served, number: int, words: list[str], depth: int) -> Iterator[Finding]:
        keyword, arguments = words[0], words[1:]
        if keyword == "menu" and arguments and arguments[0].lower() == "include":
            keyword, arguments = "include", arguments[1:]
        if not arguments:
            return
        if keyword == "label":
            yield from self._label_ends(file)
            self.label = self.labels[arguments[0]] = _Label(number)
        elif keyword == "default":
            self.default = file, number, arguments[0]
        elif keyword == "path":
            self.path += [part for argument in arguments for part in argument.split(":") if part]
        elif keyword == "include":
            # PXELINUX ignores a missing include, and configurations of distributions rely on this.
            found = self._find(local(arguments[0]))
            if found is not None and depth < _NESTED:
                yield from self.read(found, depth + 1)
        elif keyword == "ui":
            yield from self._named_file(file, number, arguments[0])
        elif keyword in _KERNELS:
            found = yield from self._named_file(file, number, arguments[0])
            if self.label is not None and keyword in ("kernel", "linux"):
                self.label.kernel = found
        elif keyword == "initrd":
            yield from self._initrd(file, number, arguments[0])
        elif keyword == "append":
            for argument in arguments:
                name, _, value = argument.partition("=")
                if name == "initrd" and value:
                    yield from self._initrd(file, number, value)
                elif self.label is not None and name in ("root", "nfsroot", "initrd"):
                    self.label.root = True

    def _initrd(self, file: Served, number: int, names: str) -> Iterator[Finding]:
        if self.label is not None:
            self.label.initrd = True
        for name in names.split(","):
            yield from self._named_file(file, number, name)

    def _named_file(self, file: Served, number: int, name: str) -> Generator[Finding, None, Served | None]:
        path = local(name.removeprefix("::"))
        if not path:
            return None
        for extension in _EXTENSIONS:
            found = self._find(f"{path}{extension}")
            if found is not None:
                return found
        yield absent(self.tree, file, number, path)
        return None

    def _find(self, name: str) -> Served | None:
        for directory in ("", *(self.path if name.endswith(".c32") else ())):
            found = self.tree.nearest(relative(f"{directory}/{name}"), self.directory)
            if found is not None:
                return found
        return None

    def _label_ends(self, file: Served) -> Iterator[Finding]:
        label, self.label = self.label, None
        if label is not None and not label.initrd and not label.root:
            yield from without_initrd(self.tree, file, label.line, label.kernel)
