"""Features that the oldest supported versions lack. `make test-distribution` runs all tests with them, on Debian 12."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INTERFACE = re.compile(r"I(?!Pv[46])[A-Z][a-z]\w*")


def evaluated(tree: ast.AST) -> Iterator[ast.expr]:
    """The annotations that Python evaluates: those of functions, and of the fields of classes and modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.ClassDef | ast.Module):
            yield from (part.annotation for part in node.body if isinstance(part, ast.AnnAssign))


def unions(tree: ast.AST) -> Iterator[ast.BinOp]:
    for node in (part for annotation in evaluated(tree) for part in ast.walk(annotation)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = (node.left, node.right)
            if any(isinstance(side, ast.Name) and INTERFACE.fullmatch(side.id) for side in sides):
                yield node


@pytest.mark.parametrize("directory", ["bootfw", "plugins"])
def test_unions_with_an_interface_are_quoted(directory: str) -> None:
    """An interface of zope.interface 5.5 has no operator ``|``: `"IStore | None"`, not `IStore | None`."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / directory).rglob("*.py")
        if " | " in (text := path.read_text()) and "from __future__ import annotations" not in text
        for node in unions(ast.parse(text))
    ]
    assert found == []
