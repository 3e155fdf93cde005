"""``bootfw status``: what a running server does."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import NOT_RUNNING, configuration_in_use, report_not_running, running, state_of
from bootfw.cli.tables import table, watch
from bootfw.records import STATES, Record
from bootfw.terminal import moment, printable

NOT_READY = 1
"""Exit code: a wanted socket is not bound."""

MISUSED = 2
"""Exit code: the configuration is wrong, or the server's socket can't be opened."""

LATE = 4.0
"""Seconds without a write to the store after which that is shown; nodes write once a second."""

ABOUT = """
Shows what a running server does: whether it is ready, its sockets, workers, transfers in flight and leases, and the
other nodes of its cluster.
"""

EPILOG = """
Examples:
  bootfw status                                     the server with the default state directory
  bootfw status -c /etc/bootfw/bootfw.toml --json   the server of that configuration, for a monitoring system
  bootfw status --watch                             the status again each second

Exit codes: 0 the server is ready, 1 it runs and is not ready, 2 it can't be queried, 3 no server runs.
"""


def add_status(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "status",
        help="show what the running server does",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    group = command.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("--watch", action="store_true", help="show it again each second, until interrupted")
    command.set_defaults(run=_status, failed=MISUSED)


def _status(options: argparse.Namespace) -> int:
    state = state_of(configuration_in_use(options.config))
    server = running(state)
    if server is None:
        if options.json:
            sys.stdout.write(json.dumps({"running": False, "ready": False, "state_directory": str(state)}) + "\n")
            return NOT_RUNNING
        return report_not_running(state, "; to see another server, name its configuration with -c FILE")
    if options.watch:
        watch(lambda: "\n".join(_lines(_record(server), time.time())))
    record = {"running": True, **_record(server)}
    if options.json:
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(record, time.time())) + "\n")
    return 0 if record["ready"] else NOT_READY


def _record(server: RunningServer) -> Record:
    records = list(server.call("status"))
    if len(records) != 1:
        raise CommandError("this server has no status operation: it is another version of bootfw")
    return records[0]


def _lines(record: Record, now: float) -> Iterable[str]:
    ready = "ready" if record["ready"] else "not ready"
    yield (
        f"bootfw {record['version']} is {ready}; it has run for {duration(now - record['since'])}, "
        f"since {moment(record['since'])}"
    )
    yield printable(
        f"pid {record['pid']}, Python {record['python']}, Twisted {record['twisted']}, "
        f"configuration {record['configuration'] or 'none, so the defaults'}"
    )
    for waiting in record["waiting"]:
        description = " ".join(str(waiting[key]) for key in ("service", "address", "device") if waiting.get(key))
        yield printable(f"waiting: {description + ': ' if description else ''}{waiting.get('reason', '')}")
    yield ""
    rows = [("SERVICE", "ADDRESS", "INTERFACE", "STATE", "SINCE", "REASON")]
    for each in record["sockets"]:
        host = f"[{each['address']}]" if ":" in each["address"] else each["address"]
        since = moment(each["since"]) if each["since"] else ""
        # A network that DHCP serves is no socket: it is "bound" while this host has an address in it.
        address = each["address"] if "/" in each["address"] else f"{host}:{each['port']}"
        rows.append((each["service"], address, each["device"], each["state"], since, each["reason"]))
    yield table(rows)
    if record["workers"]:
        yield ""
        workers = [("WORKER", "STATE", "PID")]
        workers += [(str(each["number"]), each["state"], str(each["pid"] or "")) for each in record["workers"]]
        yield table(workers)
    yield ""
    yield f"transfers in flight: {record['transfers']}"
    if record.get("images"):
        yield ""
        yield table([_IMAGES, *map(_image, record["images"])])
    if record.get("uploads"):
        yield ""
        yield table([_UPLOADS, *map(_upload, record["uploads"])])
    if record["leases"]:
        yield ""
        leases = [("SUBNET", *(state.upper() for state in STATES), "FREE")]
        for each in record["leases"]:
            leases.append((each["network"], *(str(each.get(state, 0)) for state in STATES), str(each["free"])))
        yield table(leases)
    if record.get("cluster"):
        yield ""
        yield from _cluster(record["cluster"])


_IMAGES = ("IMAGE", "METHOD", "TO", "RECEIVERS", "COMPLETE", "SENT", "LOSS", "RATE")


def _image(record: Record) -> tuple[str, ...]:
    """Return the row of an image that is sent to many machines."""
    return (
        record["image"],
        record["method"],
        f"{record['address']}:{record['port']}",
        str(record["receivers"]),
        str(record["completed"]),
        f"{record['sent'] / 1e6:.0f} of {record['size'] / 1e6:.0f} MB",
        f"{100 * record['loss']:.1f}%",
        f"{record['rate'] / 1e6:.1f} MB/s",
    )


_UPLOADS = ("UPLOAD", "FROM", "STATE", "RECEIVED")


def _upload(record: Record) -> tuple[str, ...]:
    """Return the row of an image that a client uploads."""
    size = f" of {record['size'] / 1e6:.0f}" if record["size"] else ""
    return record["image"], record["client"], record["state"], f"{record['received'] / 1e6:.0f}{size} MB"


def _cluster(record: Mapping[str, Any]) -> Iterable[str]:
    """Return the lines about the nodes, and about the store if it can't be reached."""
    rows = [("NODE", "STATE", "ROLE", "TRANSFERS", "HEARD", "VERSION", "ADDRESSES", "SERVES")]
    for node in record["nodes"]:
        is_here = node["state"] == "here"
        state = node["state"]
        if is_here and node.get("draining", False):
            state = "draining"
        elif is_here and not node.get("ready", True):
            state = "not ready"
        last_heard = "this node" if node is record["nodes"][0] else f"{duration(node['heard'])} ago"
        # Which ports of which addresses is for --json; here the services are enough.
        services = dict.fromkeys(each.partition(" ")[0] for each in node.get("serves", ()))
        addresses = ", ".join(node.get("addresses", ()))
        role = node.get("leadership", "") if is_here else ""
        transfers = str(node.get("transfers", "")) if is_here else ""  # a node of an earlier version does not say it
        version = node.get("version", "")
        rows.append((node["name"], state, role, transfers, last_heard, version, addresses, ", ".join(services)))
    yield table(rows)
    behind = record["behind"]
    if behind is None:
        yield "the store that the nodes share has not been reached yet"
    elif behind > LATE:
        yield f"the store that the nodes share was last reached {duration(behind)} ago"


def duration(seconds: float) -> str:
    """Format a time span in its two largest units: "2 h 3 min"."""
    remaining = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, remaining = divmod(remaining, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
