"""``bootfw-emulab``: lists the nodes of a running server, sends them orders, and has them load their images again."""

import argparse
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bootfw.api import PluginContext

_SECONDS = 30.0
"""How long the server may take for an operation."""

_OPERATIONS = {"nodes": "nodes", "order": "node-order", "load": "node-load"}
"""Command -> operation of the control socket."""

_COLUMNS = ("node", "mac", "address", "experiment", "boot", "loads", "loader")


class CommandError(Exception):
    """The command can't be done; the message is for the operator."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    operation = _OPERATIONS[options.command]
    parameters = {name: getattr(options, name) for name in ("node", "order") if hasattr(options, name)}
    try:
        records = call(options.state_dir / "control.sock", operation, parameters)
    except CommandError as error:
        sys.stderr.write(f"bootfw-emulab: {error}\n")
        return 1
    if options.json:
        lines = [json.dumps(record) for record in records]
    elif operation == "nodes":
        lines = _table([_COLUMNS, *([_text(record[name]) for name in _COLUMNS] for record in records)])
    elif operation == "node-order":
        lines = [f"{each['order']} was sent to {each['node']}, {each['address']}" for each in records]
    else:
        lines = [f"{each['node']} loads {', '.join(each['images'])} at its next boot" for each in records]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def call(path: Path, operation: str, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Call an operation of the control socket at *path*, and return its records.

    :raise CommandError: there is no server, or it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(_SECONDS)
            control.connect(str(path))
            control.sendall(json.dumps({"do": operation, "with": dict(arguments)}).encode() + b"\n")
            lines = b"".join(iter(lambda: control.recv(65536), b"")).splitlines()
    except OSError as error:
        raise CommandError(f"no server answers at {path}: {error.strerror or error}") from error
    answers = [json.loads(line) for line in lines]
    if not answers or "done" not in answers[-1]:
        raise CommandError(answers[-1]["error"] if answers else f"the server at {path} has ended")
    return [answer["record"] for answer in answers[:-1]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bootfw-emulab", description=__doc__.partition(": ")[2])
    default = PluginContext(None, Path.cwd()).state_directory
    parser.add_argument(
        "-s",
        "--state-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help="state directory of the server (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object a line")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("nodes", help="list the nodes: what they boot next, and what their boot loader does")
    order = commands.add_parser("order", help="send an order to the boot loader of a node that waits")
    order.add_argument("node", help="name of its host file, MAC or address")
    order.add_argument("order", help='"reboot", "auto" (ask again), "restart", or what it boots, such as "partition:2"')
    load = commands.add_parser("load", help="have a node load its images again, at its next boot")
    load.add_argument("node", help="name of its host file, MAC or address")
    return parser


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


if __name__ == "__main__":
    sys.exit(main())
