#!/usr/bin/env python3
"""The public API: what plugins and programs may use of bootfw.api and bootfw.testing.

    tools/publicapi.py signatures > tests/api_signatures.txt
    tools/publicapi.py api
    tools/publicapi.py events

The last two are pages that `make docs` writes. All are read from the source, so they are the same with each version of
Python. A signature has all that a caller writes down: parameters with annotations and defaults, fields, members.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
from zope.interface.interface import InterfaceClass

MODULES = ("bootfw.api", "bootfw.testing")

INTRODUCTION = """\
# API

A plugin or a program that embeds bootfw imports from `bootfw.api`, and its tests from `bootfw.testing`. What is listed
here stays: see [Which changes to expect](compatibility.md). [Write a plugin](howto/plugins.md) and
[Embed bootfw](howto/embedding.md) show how the parts are used.
"""

EVENTS = """\
# Events

What happens is published as events: to observers (`IBootObserver`), to the log, whose JSON objects have the name of
the class as `event`, to webhooks, and by server-sent events to the pages. They are about stages and transfers, never
about single packets. [Monitor it](howto/monitoring.md) shows how to receive them. A later version may add kinds of
events, and fields at the end of a kind.

Every event has `at`, seconds on the reactor's clock; the log has the time of day instead.
"""

KINDS = (
    ("Interfaces", "Implemented by plugins; a method that may answer later returns the value, or an awaitable of it."),
    ("Events", "They have [a page of their own](events.md)."),
    ("Errors", "Raised by bootfw, or by a plugin to say what is wrong."),
    ("Classes", ""),
    ("Functions", ""),
    ("Constants", ""),
)
"""(heading, introduction) of the parts of the page."""

TESTS = """\
## For tests

Of `bootfw.testing`. A contract kit is mixed into a test class, which overrides what is listed.
"""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Public:
    """One public name.

    :param name: as it is imported.
    :param value: what it stands for.
    """

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if isinstance(self.value, InterfaceClass):
            return "Interfaces"
        if not isinstance(self.value, type):
            return "Functions" if inspect.isroutine(self.value) else "Constants"
        if issubclass(self.value, BaseException):
            return "Errors"
        events = import_module("bootfw.events")
        return "Events" if issubclass(self.value, events.Event) else "Classes"

    def signature(self) -> Iterator[str]:
        """Yield the lines: the name with parameters, then the members, indented."""
        if self.kind == "Constants":
            yield f"{self.name} = {_constant(self.value)}"
            return
        node = definition(self.value)
        if isinstance(node, ast.ClassDef):
            yield f"{self._word()} {self.name}{self._call_signature()}"
            yield from (f"    {line}" for line in self._members())
        else:
            assert node is not None, self.name
            yield f"{_async(node)}def {self.name}{_parameters(node)}"

    def _word(self) -> str:
        words = {"Interfaces": "interface", "Errors": "exception"}
        return (
            "enum" if isinstance(self.value, type) and issubclass(self.value, Enum) else words.get(self.kind, "class")
        )

    def _call_signature(self) -> str:
        """The parameters with which the class is called; of an interface, what it extends."""
        if isinstance(self.value, InterfaceClass):
            return f"({', '.join(base.__name__ for base in self.value.__bases__)})"
        if attrs.has(self.value):
            annotated = {name: found for part in self.parts() for name, found in _fields(part).items()}
            return (
                f"({', '.join(_field(each, annotated[each.name]) for each in attrs.fields(self.value) if each.init)})"
            )
        for part in reversed(self.parts()):
            for item in part.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    return _parameters(item).removesuffix(" -> None").replace("(self, ", "(").replace("(self)", "()")
        return ""

    def fields(self) -> dict[str, str]:
        """Name of a field of an attrs class that is a parameter -> the parameter."""
        annotated = {name: found for part in self.parts() for name, found in _fields(part).items()}
        return {each.name: _field(each, annotated[each.name]) for each in attrs.fields(self.value) if each.init}

    def parts(self) -> list[ast.ClassDef]:
        """The definitions of the class and of its bases in bootfw, the last base first."""
        kinds = [self.value] if isinstance(self.value, InterfaceClass) else [*reversed(self.value.__mro__)]
        found = [definition(kind) for kind in kinds if kind.__module__.startswith("bootfw")]
        return [node for node in found if isinstance(node, ast.ClassDef)]

    def _members(self) -> Iterator[str]:
        """Yield the signature of each public member, by name. Tests of a contract kit may be added at any time."""
        members: dict[str, str] = {}
        for part in self.parts():
            for item in part.body:
                members |= dict(_member(item))
        for name in sorted(members):
            if not name.startswith(("_", "test_")):
                yield members[name]


def _member(item: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield (name, signature) of what a statement in the body of a class defines."""
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = [ast.unparse(each) for each in item.decorator_list]
        if any(each.endswith((".default", ".validator")) for each in decorators):
            return
        if "property" in decorators:
            yield item.name, f"{item.name}: {ast.unparse(item.returns) if item.returns else 'Any'}"
        else:
            prefix = "".join(f"@{each} " for each in decorators if each in ("classmethod", "staticmethod"))
            yield item.name, f"{prefix}{_async(item)}def {item.name}{_parameters(item)}"
    elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
        yield item.target.id, f"{item.target.id}: {ast.unparse(item.annotation)}"
    elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
        yield item.targets[0].id, f"{item.targets[0].id} = {ast.unparse(item.value)}"


def _async(node: ast.stmt) -> str:
    return "async " if isinstance(node, ast.AsyncFunctionDef) else ""


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){result}".replace("(self, ", "(").replace("(self)", "()")


def _fields(node: ast.ClassDef) -> dict[str, ast.AnnAssign]:
    return {
        item.target.id: item
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _field(each: "attrs.Attribute[Any]", node: ast.AnnAssign) -> str:
    """A field as a parameter."""
    text = f"{each.alias}: {ast.unparse(node.annotation)}"
    if each.default is attrs.NOTHING:
        return text
    if isinstance(each.default, attrs.Factory):  # type: ignore[arg-type]  # it is a class, whatever its types say
        return f"{text} = ..."
    return f"{text} = {_constant(each.default)}"


def _constant(value: Any) -> str:
    """A value that a reader can compare; "..." for one that has no short spelling."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_constant(key)}: {_constant(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple | list):
        items = ", ".join(map(_constant, value))
        return f"({items}{',' * (len(value) == 1)})"
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    return "..." if not repr(value).startswith("tuple[") else repr(value)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


def definition(value: Any) -> Definition | None:
    """The node that defines a class, an interface or a function; None: it has none."""
    for node in _tree(value.__module__).body:
        if isinstance(node, Definition) and node.name == value.__name__:
            return node
    return None


def public(module: str) -> list[Public]:
    """The public names of a module, sorted."""
    found = import_module(module)
    return [Public(name, getattr(found, name)) for name in sorted(found.__all__)]


def signatures() -> str:
    """All signatures, as text."""
    parts = []
    for module in MODULES:
        parts.append(f"# {module}\n")
        parts += ["\n".join(each.signature()) + "\n" for each in public(module)]
    return "\n".join(parts)


def page() -> str:
    """The page of the API."""
    parts = [INTRODUCTION]
    names = public("bootfw.api")
    for kind, about in KINDS:
        parts.append(f"## {kind}\n" + (f"\n{about}\n" if about else ""))
        parts += [_described(each, 3) for each in names if each.kind == kind != "Events"]
    parts.append(TESTS)
    parts += [_described(each, 3) for each in public("bootfw.testing")]
    return "\n".join(parts)


def events() -> str:
    """The page of the events, in the order of the source."""
    order = list(vars(import_module("bootfw.events")))
    found = [each for each in public("bootfw.api") if each.kind == "Events" and each.name != "Event"]
    found.sort(key=lambda each: order.index(each.name))
    return "\n".join([EVENTS, *(_described(each, 2) for each in found)])


def _described(each: Public, level: int) -> str:
    docs = "" if each.kind == "Constants" else inspect.getdoc(each.value) or ""
    text = f"{'#' * level} {each.name}\n\n```text\n" + "\n".join(_shown(each)) + "\n```\n"
    about = markdown(docs)
    if about:
        text += f"\n{about}\n"
    members = [] if each.kind == "Constants" else list(_documented_members(each))
    return text + ("\n" + "\n".join(members) + "\n" if members else "")


def _shown(each: Public) -> Iterator[str]:
    """Yield the lines of a signature for a reader: each field once, and one on a line where there are many."""
    first, *members = each.signature()
    if not attrs.has(each.value) if isinstance(each.value, type) else True:
        yield from (first, *members)
        return
    fields = each.fields()
    if len(first) > 100:
        yield first.partition("(")[0] + "("
        yield from (f"    {field}," for field in fields.values())
        yield ")"
    else:
        yield first
    yield from (line for line in members if line.strip().partition(":")[0] not in fields)


def _documented_members(each: Public) -> Iterator[str]:
    if not isinstance(each.value, type | InterfaceClass):
        return
    for part in each.parts()[-1:]:
        following: Sequence[ast.stmt | None] = [*part.body[1:], None]
        for item, after in zip(part.body, following, strict=True):
            for name, _ in _member(item):
                text = "" if name.startswith(("_", "test_")) else _doc_of(item, after)
                if text and not text.startswith("See "):
                    yield f"* `{name}`: {markdown(text, '  ')}"


def _doc_of(item: ast.stmt, after: ast.stmt | None) -> str:
    """The docstring of a method, the string below a field, or the text of an Attribute() of an interface."""
    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
        return ast.get_docstring(item) or ""
    value = getattr(item, "value", None)
    if (
        isinstance(value, ast.Call)
        and ast.unparse(value.func) == "Attribute"
        and isinstance(value.args[0], ast.Constant)
    ):
        return str(value.args[0].value)
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return inspect.cleandoc(after.value.value)
    return ""


def markdown(text: str, indent: str = "") -> str:
    """A docstring in reST as Markdown: literals, roles, lists of parameters and blocks of code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    parts: list[str] = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if parts and parts[-1].endswith("::") and part.startswith("    "):
            parts[-1] = parts[-1][:-1]
            parts.append("```python\n" + inspect.cleandoc(part) + "\n```")
            continue
        lines = re.split(r"\n(?=:(?:param|return|returns|raise|raises)\b)", part)
        formatted = []
        for line in lines:
            line = " ".join(line.split())
            line = re.sub(r"^:param ([\w, ]+): ?(.*)", r"* *\1*: \2", line)
            line = re.sub(r"^:returns?: ?(.*)", r"* Returns \1", line)
            formatted.append(re.sub(r"^:raises? ([^:]+): ?(.*)", r"* Raises \1: \2", line))
        sentences = [line for line in formatted if not line.startswith("* ")]
        list_items = [line for line in formatted if line.startswith("* ")]
        parts += [" ".join(sentences)] if sentences else []
        parts += ["\n".join(list_items)] if list_items else []
    joined = "\n\n".join(parts)
    return joined.replace("\n", f"\n{indent}").replace(f"\n{indent}\n", "\n\n")


def main() -> None:
    """Print the signatures, or a page."""
    parser = argparse.ArgumentParser(description="The public API of bootfw, read from its source.")
    parser.add_argument("what", choices=("signatures", "api", "events"))
    sys.stdout.write({"signatures": signatures, "api": page, "events": events}[parser.parse_args().what]())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
