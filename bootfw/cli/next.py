"""``bootfw next``: sets and lists one-time boots, and lists machines in a boot loop."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bootfw.boot.pluginresult import as_deferred
from bootfw.build import order_store
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import HELP, machine_mac
from bootfw.cli.offline import OfflineOrders
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import add_state_options, check_offline, running, state_of
from bootfw.cli.tables import table
from bootfw.config.configuration import Configuration, load_config
from bootfw.errors import ConfigError, FileMissing
from bootfw.interfaces import IOfflineStore
from bootfw.records import Record
from bootfw.resolvers.checks import file_name
from bootfw.resolvers.scripts import is_url
from bootfw.terminal import moment, printable
from bootfw.tftp.path import relative
from bootfw.values import Client, TransferRequest, only_phase

_EXAMPLES = """
Examples:
  bootfw next 52:54:00:12:34:56 debian/install.ipxe   install it at its next boot, and not again
  bootfw next                                         the one-time boots, and the machines in a boot loop
  bootfw next --clear 52:54:00:12:34:56               cancel that
  bootfw next --forgive 52:54:00:12:34:56             it was no loop: let it boot from here again
"""


def add_next(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "next",
        help="have a machine boot something else, once",
        description="Sets a one-time boot; without arguments, lists them and the machines in a boot loop.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mac", nargs="?", default="", metavar="MACHINE", help=HELP)
    parser.add_argument(
        "file",
        nargs="?",
        default="",
        metavar="FILE",
        help="a path or a URL, as a resolver would name it; URLs and names that end in .ipxe are for iPXE",
    )
    parser.add_argument("--clear", metavar="MACHINE", default="", help="cancel the one-time boot of this machine")
    parser.add_argument(
        "--forgive",
        metavar="MACHINE",
        default="",
        help="let a machine in a boot loop boot from here again",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_state_options(parser)
    parser.set_defaults(run=lambda options: _run(options, parser))


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    actions = [bool(options.mac or options.file), bool(options.clear), bool(options.forgive)]
    if sum(actions) > 1:
        parser.error("give MACHINE and FILE, --clear or --forgive, not several of them")
    if options.mac and not options.file:
        parser.error("FILE is missing: what should it boot?")
    configuration = load_config(options.config, os.environ)
    assembly, state = Assembly(configuration), state_of(configuration)
    if options.forgive:
        _forgive(machine_mac(options.forgive, assembly), state, options.json)
        return
    if options.clear or options.mac:
        mac = machine_mac(options.clear or options.mac, assembly)
        if options.mac:
            needs_resolver(configuration)
            file = _file(options.file)
    orders = orders_of(configuration, options, changes=bool(options.clear or options.mac))
    if options.clear:
        _clear(mac, orders, options.json)
    elif options.mac:
        if is_missing(file, mac, assembly):
            sys.stderr.write(f"bootfw: no backend of {assembly.source} has {printable(file)}\n")
        _order(mac, file, orders, options.json)
    else:
        _list(orders, options.json)


def orders_of(
    configuration: Configuration, options: argparse.Namespace, changes: bool
) -> RunningServer | OfflineOrders:
    """Return the running server, or its store, to read or change the orders.

    :param changes: whether the orders are to be changed.
    :raise CommandError: there is neither.
    """
    state = state_of(configuration)
    server = running(state)
    if server is not None:
        return server
    name, store = order_store(configuration)
    offline = IOfflineStore.providedBy(store)
    if not offline:
        raise CommandError(
            f'no server runs with the state directory {state}, and without one the orders in "{name}" can\'t be reached'
        )
    check_offline(state, options, changes)
    return OfflineOrders(store)


def _order(mac: str, file: str, orders: RunningServer | OfflineOrders, as_json: bool) -> None:
    order = orders.order(mac, file)
    if as_json:
        _print_json(order)
    else:
        _print(f"{mac} boots {file} next, once")


def _clear(mac: str, orders: RunningServer | OfflineOrders, as_json: bool) -> None:
    order = orders.cancel(mac)
    if order is None:
        raise CommandError(f"there is no one-time boot for {mac}")
    if as_json:
        _print_json(order)
    else:
        _print(f"{mac} boots as usual")


def _forgive(mac: str, state: Path, as_json: bool) -> None:
    server = running(state)
    if server is None:
        raise CommandError(f"no server runs with the state directory {state}, so no boot loop is known")
    records = list(server.call("forgive", mac=mac))
    if not records:
        raise CommandError(f"{mac} is not in a boot loop")
    if as_json:
        _print_json(_with_end_time(records[0], time.time()))
    else:
        _print(f"{mac} boots from here again")


def _list(source: RunningServer | OfflineOrders, as_json: bool) -> None:
    looping = _looping(source) if isinstance(source, RunningServer) else None
    try:
        orders = source.next_boots()
    except CommandError:
        if looping is None:
            raise
        orders = ()  # a server without this resolver
    if as_json:
        _print_json({"next": list(orders), "looping": looping})
        return
    rows = [("MAC", "NEXT BOOT", "SINCE")]
    rows += [(order["mac"], order["file"], moment(order["ordered"])) for order in orders]
    _print(table(rows))
    if looping:
        loops = [("LOOPING", "TIMES", "ITS OWN DISK UNTIL", "GOT")]
        loops += [(r["mac"], str(r["times"]), moment(r["until"]), ", ".join(r["files"])) for r in looping]
        _print("\n" + table(loops))


def _looping(server: RunningServer) -> Sequence[dict[str, Any]] | None:
    """Return the machines in a boot loop; None: the server has no resolver that finds them."""
    try:
        now = time.time()
        return [_with_end_time(record, now) for record in server.call("looping")]
    except CommandError:
        return None


def _with_end_time(record: Record, now: float) -> dict[str, Any]:
    """Return the record with the wall-clock time of the end instead of the remaining seconds."""
    return {**{key: value for key, value in record.items() if key != "seconds"}, "until": now + record["seconds"]}


def is_missing(file: str, mac: str, assembly: Assembly) -> bool:
    """Return whether no backend of the configuration has *file*. A file that is generated for a client counts as
    existing."""
    name = re.sub(r"^\{https?\}/", "", file)
    if is_url(name) or "{" in name or only_phase(name):
        return False
    path = relative(name)
    request = TransferRequest(filename=name, path=path, peer=("", 0), client=Client(mac=mac))
    # Other errors of the configuration are reported by "bootfw run --check".
    try:
        for _, backend in assembly.parts.backends:
            with suppress(FileMissing):
                opening = backend.open(path, request)
                pending = as_deferred(opening)
                if pending is None:
                    opening.close()
                else:
                    pending.addBoth(lambda result: None)
                return False
    except Exception:
        return False
    return True


def needs_resolver(configuration: Configuration) -> None:
    """Refuse a one-time boot that no resolver of the configuration would use.

    :raise CommandError: the configuration has resolvers, but none for one-time boots.
    """
    chosen = configuration.plugins.get("resolver")
    if chosen is not None and not any(choice.use == "next-boot" for choice in chosen):
        raise CommandError(
            f"{configuration.source or 'the configuration'} has resolvers, but none for one-time boots: "
            'begin them with [[resolver]] use = "next-boot"'
        )


def _file(text: str) -> str:
    try:
        name = file_name(text)
    except (ValueError, ConfigError) as error:
        raise CommandError(f"FILE {error}") from error
    if not name.isprintable() or " " in name:
        raise CommandError("FILE must not contain blanks: firmware and iPXE would split it")
    return name


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))
