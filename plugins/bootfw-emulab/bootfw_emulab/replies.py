"""Renders the replies of tmcd, from a node and a template for each command."""

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

BUILT_IN = Path(__file__).parent / "templates"

_NAME = re.compile(r"[a-z][a-z0-9]*")

_log = Logger(namespace="bootfw")


@frozen
class ReplyContext:
    """The request that a reply is for, beside the node."""

    request: TmcdRequest
    by_tcp: bool
    server: str
    """The address of this server."""
    is_load_pending: bool
    """Whether the node has images to load."""


@frozen(slots=False, eq=False)
class Replies:
    """Renders replies. ``ifconfig.j2`` of the operator replaces the built-in one; other names are further commands.

    :param directory: the operator's directory of templates; None: there is none.
    """

    directory: Path | None = None

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(templates_in([*self._directories, BUILT_IN]))

    @property
    def _directories(self) -> Sequence[Path]:
        return [] if self.directory is None else [self.directory]

    def command(self, word: str) -> Command | None:
        """Return the command that the first word of a request names; None: there is none."""
        return find(word, [name for directory in self._directories for name in _names(directory)])

    def render(self, command: Command, node: Node, context: ReplyContext) -> bytes:
        """Return the reply; b"": there is none, or its template failed, which is logged.

        "fullconfig" is the replies to all commands, each between two lines that name the command.
        """
        if command.needs_experiment and not node.table.is_allocated:
            return b""
        if command.tcp_only and not context.by_tcp:
            return b""
        if command.name == "fullconfig":
            names = VIRTUAL if node.table.physical else PHYSICAL
            parts = [(f"*** {name}\n".encode(), self._reply_to(name, node, context)) for name in names]
            return b"".join(marker + reply + marker for marker, reply in parts)
        return self._reply_to(command.name, node, context)

    def _reply_to(self, name: str, node: Node, context: ReplyContext) -> bytes:
        reply = node.table.replies.get(name)
        if reply is not None:
            return (reply if reply.endswith("\n") or not reply else f"{reply}\n").encode()
        if not any((directory / f"{name}{SUFFIX}").is_file() for directory in (*self._directories, BUILT_IN)):
            return b""
        try:
            return self._sandbox.render(f"{name}{SUFFIX}", _facts(node, context))
        except Exception as error:  # an expression in a template of the operator may raise anything
            _log.error(
                "tmcd {node}: the template {name}.j2 can't be rendered: {error}", node=node.name, name=name, error=error
            )
            return b""


def _names(directory: Path) -> list[str]:
    names = [path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}")]
    return [name for name in names if _NAME.fullmatch(name)]


def _facts(node: Node, context: ReplyContext) -> Mapping[str, Any]:
    return {
        "name": node.name,
        "node": node.table,
        "host": node.host,
        "version": context.request.version,
        "argument": context.request.argument,
        "server": context.server,
        "loads": context.is_load_pending,
        "random": secrets.token_hex(16),
    }
