"""``bootfw next``: what machines boot next, once, and which of them are kept from a loop."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bootfw.cli.failure import CommandError
from bootfw.cli.running import RunningServer
from bootfw.cli.table import aligned, moment
from bootfw.config import Configuration, load_config
from bootfw.errors import ConfigError
from bootfw.net.control import SOCKET
from bootfw.records import Record
from bootfw.resolvers.checks import file_name, mac_address
from bootfw.resolvers.oneshots import FILE, OneShots
from bootfw.state import state_directory

_EXAMPLES = """
Examples:
  bootfw next 52:54:00:12:34:56 debian/install.ipxe   install it at its next boot, and not again
  bootfw next                                         what is ordered, and who is kept from a loop
  bootfw next --clear 52:54:00:12:34:56               it boots as always
  bootfw next --forgive 52:54:00:12:34:56             it is no loop: let it boot from here again
"""


def add_next(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "next",
        help="have a machine boot something else, once",
        description="What machines boot next, once; without arguments, what is ordered and who is kept from a loop.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mac", nargs="?", default="", metavar="MAC", help="of the network card that it boots by")
    parser.add_argument(
        "file",
        nargs="?",
        default="",
        metavar="FILE",
        help="as a resolver would name it: a path, or a URL; what ends in .ipxe, and a URL, is for iPXE",
    )
    parser.add_argument("--clear", metavar="MAC", default="", help="take back what is ordered for it")
    parser.add_argument("--forgive", metavar="MAC", default="", help="keep it from its loop no longer")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=None, help="the configuration that the server runs by"
    )
    parser.set_defaults(run=lambda options: _run(options, parser))


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    asked = [bool(options.mac or options.file), bool(options.clear), bool(options.forgive)]
    if sum(asked) > 1:
        parser.error("give MAC and FILE, --clear or --forgive, not several of them")
    if options.mac and not options.file:
        parser.error("FILE is missing: what should it boot?")
    configuration = load_config(options.config, os.environ)
    state = state_directory(configuration.settings.state_dir)
    if options.forgive:
        _forgive(_mac(options.forgive), state, options.json)
    elif options.clear:
        _clear(_mac(options.clear), OneShots(state / FILE), options.json)
    elif options.mac:
        _needs_resolver(configuration)
        _order(_mac(options.mac), _file(options.file), OneShots(state / FILE), options.json)
    else:
        _list(state, options.json)


def _order(mac: str, file: str, kept: OneShots, as_json: bool) -> None:
    kept.order(mac, file)
    if as_json:
        _print_json(attrs.asdict(kept.read()[mac], filter=_public))
    else:
        _print(f"{mac} boots {file} next, once")


def _clear(mac: str, kept: OneShots, as_json: bool) -> None:
    order = kept.read().get(mac)
    if order is None:
        raise CommandError(f"nothing is ordered for {mac}")
    kept.remove([order])
    if as_json:
        _print_json(attrs.asdict(order, filter=_public))
    else:
        _print(f"{mac} boots as always")


def _forgive(mac: str, state: Path, as_json: bool) -> None:
    try:
        records = list(RunningServer(state / SOCKET).ask("forgive", mac=mac))
    except (FileNotFoundError, ConnectionRefusedError):
        raise CommandError("bootfw does not run, and keeps nobody from a loop") from None
    if not records:
        raise CommandError(f"{mac} is not kept from a loop")
    if as_json:
        _print_json(_shown(records[0], time.time()))
    else:
        _print(f"{mac} boots from here again")


def _list(state: Path, as_json: bool) -> None:
    orders = list(OneShots(state / FILE).read().values())
    looping = _looping(state)
    if as_json:
        _print_json({"next": [attrs.asdict(order, filter=_public) for order in orders], "looping": looping})
        return
    rows = [("MAC", "NEXT BOOT", "SINCE")]
    rows += [(order.mac, order.file, moment(order.ordered)) for order in orders]
    _print(aligned(rows))
    if looping:
        table = [("LOOPING", "TIMES", "ITS OWN DISK UNTIL", "GOT")]
        table += [(r["mac"], str(r["times"]), moment(r["until"]), ", ".join(r["files"])) for r in looping]
        _print("\n" + aligned(table))


def _looping(state: Path) -> Sequence[dict[str, Any]] | None:
    """Those that are kept from a loop; None: there is no server that could tell."""
    try:
        now = time.time()
        records = RunningServer(state / SOCKET).ask("looping")
        return [_shown(record, now) for record in records]
    except (FileNotFoundError, ConnectionRefusedError, PermissionError, CommandError):
        return None


def _shown(record: Record, now: float) -> dict[str, Any]:
    """With a time of the clock in place of the seconds from now on."""
    return {**{key: value for key, value in record.items() if key != "seconds"}, "until": now + record["seconds"]}


def _needs_resolver(configuration: Configuration) -> None:
    """Else the order would stand there for ever.

    :raise CommandError: the configuration has resolvers, and none that looks at it.
    """
    chosen = configuration.plugins.get("resolver")
    if chosen is not None and not any(choice.use == "next-boot" for choice in chosen):
        raise CommandError(
            f"{configuration.source or 'the configuration'} has resolvers, but none that asks for it: begin them with "
            '[[resolver]] use = "next-boot"'
        )


def _public(attribute: Any, value: Any) -> bool:
    return bool(attribute.name != "number")


def _mac(text: str) -> str:
    try:
        return mac_address(text)
    except ValueError as error:
        raise CommandError(f"MAC {error}") from error


def _file(text: str) -> str:
    try:
        name = file_name(text)
    except (ValueError, ConfigError) as error:
        raise CommandError(f"FILE {error}") from error
    if not name.isprintable() or " " in name:
        raise CommandError("FILE must have no blanks in it: firmware and iPXE would take it apart")
    return name


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))
