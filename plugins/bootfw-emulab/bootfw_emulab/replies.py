"""The replies of tmcd to one command each, made from a node by templates."""

import re
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from bootfw.api import Sandbox, templates_in
from bootfw_emulab.commands import PHYSICAL, VIRTUAL, Command, find
from bootfw_emulab.node import Node
from bootfw_emulab.tmcdrequest import TmcdRequest

SUFFIX = ".j2"

OURS = Path(__file__).parent / "templates"

_NAME = re.compile(r"[a-z][a-z0-9]*")

_log = Logger(namespace="bootfw")


@frozen
class Asked:
    """What a reply depends on beside the node."""

    request: TmcdRequest
    by_tcp: bool
    server: str
    """Our address."""
    loads: bool
    """Whether the images of the node have to be loaded still."""


@frozen(slots=False, eq=False)
class Replies:
    """Renders replies. ``ifconfig.j2`` in a directory of the operator comes before ours; others are new commands.

    :param own: that directory; None: there is none.
    """

    own: Path | None = None

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(templates_in([*self._own, OURS]))

    @property
    def _own(self) -> Sequence[Path]:
        return [] if self.own is None else [self.own]

    def command(self, word: str) -> Command | None:
        """The command of a request; None: there is none."""
        return find(word, [name for directory in self._own for name in _names(directory)])

    def render(self, command: Command, node: Node, asked: Asked) -> bytes:
        """The reply; b"": there is none, or it can't be made, which the log says.

        "fullconfig" is all replies of the node, each between two lines that name it.
        """
        if command.needs_experiment and not node.table.is_allocated:
            return b""
        if command.tcp_only and not asked.by_tcp:
            return b""
        if command.name == "fullconfig":
            names = VIRTUAL if node.table.physical else PHYSICAL
            parts = [(f"*** {name}\n".encode(), self._of(name, node, asked)) for name in names]
            return b"".join(marker + reply + marker for marker, reply in parts)
        return self._of(command.name, node, asked)

    def _of(self, name: str, node: Node, asked: Asked) -> bytes:
        own = node.table.replies.get(name)
        if own is not None:
            return (own if own.endswith("\n") or not own else f"{own}\n").encode()
        if not any((directory / f"{name}{SUFFIX}").is_file() for directory in (*self._own, OURS)):
            return b""
        try:
            return self._sandbox.render(f"{name}{SUFFIX}", _facts(node, asked))
        except Exception as error:  # whatever a template of the operator does
            _log.error(
                "tmcd {node}: the template {name}.j2 can't be rendered: {error}", node=node.name, name=name, error=error
            )
            return b""


def _names(directory: Path) -> list[str]:
    found = [path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}")]
    return [name for name in found if _NAME.fullmatch(name)]


def _facts(node: Node, asked: Asked) -> Mapping[str, Any]:
    return {
        "name": node.name,
        "node": node.table,
        "host": node.host,
        "version": asked.request.version,
        "argument": asked.request.argument,
        "server": asked.server,
        "loads": asked.loads,
        "random": secrets.token_hex(16),
    }
