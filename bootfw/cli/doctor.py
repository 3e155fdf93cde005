"""``bootfw doctor``: checks what a server needs on this host, and suggests what to do."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import attrs

from bootfw.build import load_parts, settle
from bootfw.cli.failure import CommandError
from bootfw.cli.hostchecks import (
    OK,
    PROBLEM,
    SKIPPED,
    WARNING,
    Check,
    Host,
    check_firewall,
    check_host,
    check_interfaces,
    check_loaders,
    check_multicast,
    check_neighbours,
    check_network,
    check_permissions,
    check_ports,
    check_security_modules,
    wanted_ports,
)
from bootfw.cli.statedir import running, state_of
from bootfw.config.configuration import ConfigErrors
from bootfw.records import Record
from bootfw.terminal import printable

FOUND = 1
"""Exit code: there is a problem."""

MISUSED = 2
"""Exit code: the command is wrong."""

ABOUT = """
Checks what a server needs: its configuration, ports and who has them, interfaces, permissions, boot files, MTU,
reverse path filter, firewall, SELinux, AppArmor, clock and disk; and the sockets of a server that runs. It changes
nothing. Run it as the user that runs the server.
"""

EPILOG = """
Examples:
  bootfw doctor -c /etc/bootfw/bootfw.toml   is everything there that this configuration takes?
  bootfw doctor --probe-network              which other DHCP servers answer in our networks?
  bootfw doctor --json                       for a program

Exit codes: 0 no problem (there may be warnings), 1 there is a problem, 2 the command is wrong.
"""


def add_doctor(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "doctor",
        help="check what a server needs, and say what to do",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    command.add_argument(
        "--probe-network",
        action="store_true",
        help="send a DISCOVER on each served interface to find other DHCP servers; takes no lease, needs UDP port 68",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_doctor, failed=MISUSED)


def _doctor(options: argparse.Namespace) -> int:
    results: list[Check] = []
    for check in _checks(options.config, options.probe_network):
        results.append(check)
        if not options.json:
            _print(check)
    counts = {result: sum(check.result == result for check in results) for result in (OK, WARNING, PROBLEM, SKIPPED)}
    if options.json:
        found = {"ok": not counts[PROBLEM], "checks": [attrs.asdict(check) for check in results]}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(f"\n{_counted(counts[PROBLEM], 'problem')}, {_counted(counts[WARNING], 'warning')}\n")
    return FOUND if counts[PROBLEM] else 0


def _checks(source: str | None, probe_network: bool) -> Iterator[Check]:
    host = Host()
    try:
        parts = load_parts(source, os.environ, None)
    except ConfigErrors as errors:
        for line in errors.lines:
            yield Check("configuration", PROBLEM, line, "correct it; docs/configuration.md has every key")
        return
    yield Check("configuration", OK, f"{source or 'the default configuration'} is right")
    state = state_of(parts.configuration)
    status, check = _status(parts.configuration)
    yield check
    settings = parts.settings if status is not None else settle(parts.configuration)[0]
    ports = wanted_ports(settings, parts)
    yield from check_ports(host, ports, status)
    yield from check_interfaces(host, settings)
    yield from check_multicast(host, settings)
    yield from check_neighbours(host)
    yield from check_permissions(host, settings, parts, state)
    yield from check_loaders(parts)
    yield from check_firewall(host, ports)
    yield from check_host(host, state)
    yield from check_security_modules(host, parts)
    if probe_network:
        yield from check_network(settings)
    else:
        yield Check("network", SKIPPED, "other DHCP servers are looked for with --probe-network")


def _status(configuration: Any) -> tuple[Record | None, Check]:
    """Return the status of the running server (None: there is none), and the result of this check."""
    state = state_of(configuration)
    try:
        server = running(state)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        return None, Check("server", WARNING, f"the running server can't be queried: {reason}", "run this as its user")
    if server is None:
        return None, Check("server", OK, f"no server runs with the state directory {state}")
    try:
        (record,) = server.call("status")
    except (CommandError, ValueError) as error:
        return None, Check("server", WARNING, f"the running server does not return its status: {error}", "restart it")
    if record["ready"]:
        return record, Check("server", OK, f"a server runs, pid {record['pid']}, and is ready")
    return record, Check(
        "server", PROBLEM, f"the running server, pid {record['pid']}, is not ready", "see bootfw status"
    )


def _print(check: Check) -> None:
    sys.stdout.write(printable(f"{check.result:<8} {check.name}: {check.text}") + "\n")
    if check.remedy and check.result in (WARNING, PROBLEM):
        sys.stdout.write(printable(f"         -> {check.remedy}") + "\n")
    sys.stdout.flush()


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
