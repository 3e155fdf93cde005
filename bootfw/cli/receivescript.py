"""Writes ``bootfw receive`` as one file: an archive that Python runs (zipapp), with the modules that it needs.

It is the same code as the command. Nothing is compressed, so that a Python without zlib can run it.
"""

import importlib.util
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "bootfw",
    "bootfw.cli",
    "bootfw.cli.failure",
    "bootfw.cli.imagereceiver",
    "bootfw.cli.receive",
    "bootfw.errors",
    "bootfw.frisbee",
    "bootfw.frisbee.digests",
    "bootfw.frisbee.reception",
    "bootfw.table",
    "bootfw.terminal",
    "bootfw.wire",
    "bootfw.wire.frisbee",
    "bootfw.wire.frisbeemaster",
)
"""What bootfw.cli.receive imports of bootfw."""

_PACKAGES = ("attr", "attrs")

_MAIN = """\
import sys

from {module} import main

sys.exit(main())
"""


def write_script(path: str, module: str = "bootfw.cli.receive") -> None:
    """Write it to *path*.

    :param module: whose function ``main`` it runs, bootfw.cli.receive or one that imports no more of bootfw.
    :raise OSError: it can't be written.
    """
    with open(path, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("__main__.py", _MAIN.format(module=module))
            for name, source in _files(module):
                archive.write(source, name)
    os.chmod(path, 0o755)


def _files(main: str) -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the file of each module."""
    for module in dict.fromkeys((*MODULES, main)):
        source = _source(module)
        stem = module.replace(".", "/")
        yield f"{stem}/__init__.py" if source.name == "__init__.py" else f"{stem}.py", source
    for package in _PACKAGES:
        for source in sorted(_source(package).parent.glob("*.py")):
            yield f"{package}/{source.name}", source


def _source(module: str) -> Path:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)
