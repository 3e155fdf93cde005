"""``bootfw machines``: the machines that have booted, and what is configured for each."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bootfw.attempts.attempt import Verdict
from bootfw.attempts.attempttext import outcome_line
from bootfw.attempts.machine import Machine, machines_of
from bootfw.cli.boots import coloured, find_attempts
from bootfw.cli.failure import CommandError
from bootfw.cli.leases import leases_of
from bootfw.cli.next import orders_of
from bootfw.cli.statedir import add_state_options
from bootfw.config.configuration import load_config
from bootfw.records import Record, Selection
from bootfw.terminal import aligned, moment

NONE_FOUND = 1
"""Exit code: no machine was found."""

ALL = 10_000
"""Most boots that are looked at, the latest ones."""

_COLUMNS = ("MACHINE", "NAME", "ADDRESS", "CLIENT", "BOOTS", "LAST BOOT", "VERDICT", "NEXT BOOT")
_EXAMPLES = """
Examples:
  bootfw machines                    every machine that has booted, the latest first
  bootfw machines --verdict failed   those whose latest boot failed
  bootfw show 52:54:00:12:34:56      what one of them did, stage by stage

Exit codes: 0 found, 1 there is none.
"""


def add_machines(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "machines",
        help="list the machines that have booted",
        description="Lists the machines of the recorded boots, with their latest boot and what is configured for them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_options(parser)
    verdicts = [verdict.value for verdict in Verdict]
    parser.add_argument(
        "--verdict", choices=verdicts, default="", metavar="VERDICT", help=f"of the latest boot: {', '.join(verdicts)}"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    machines = machines_of(find_attempts(options, {"limit": ALL}, "boots"))
    selected = [each for each in machines if options.verdict in ("", each.last.verdict.value)]
    names, orders = _names(options), _orders(options)
    if options.json:
        _print(json.dumps([_record(each, names, orders) for each in selected], indent=2))
    elif selected:
        rows: list[tuple[str, ...]] = [
            ("MACHINE", "NAME", "ADDRESS", "CLIENT", "BOOTS", "LAST BOOT", "VERDICT", "NEXT BOOT")
        ]
        rows += [_row(each, names, orders) for each in selected]
        head, *lines = aligned(rows).splitlines()
        _print("\n".join([head, *(coloured(line, each.last) for line, each in zip(lines, selected, strict=True))]))
    else:
        sys.stderr.write(f"bootfw: no machine {'matches' if options.verdict else 'has booted yet'}\n")
    return 0 if selected else NONE_FOUND


def _row(machine: Machine, names: Mapping[str, str], orders: Mapping[str, str]) -> tuple[str, ...]:
    last = machine.last
    return (
        machine.client,
        names.get(last.mac, "-"),
        ", ".join(machine.addresses[-1:]) or "-",
        ", ".join(filter(None, (machine.persona, machine.architecture))) or "-",
        str(machine.boots),
        moment(last.began),
        outcome_line(last),
        orders.get(last.mac, "-"),
    )


def _record(machine: Machine, names: Mapping[str, str], orders: Mapping[str, str]) -> Record:
    last = machine.last
    return {
        "machine": machine.client,
        "mac": last.mac,
        "uuid": machine.uuid,
        "name": names.get(last.mac, ""),
        "addresses": list(machine.addresses),
        "persona": machine.persona,
        "architecture": machine.architecture,
        "boots": machine.boots,
        "failed": machine.failed,
        "last": {"id": last.id, "began": last.began, "verdict": last.verdict.value, "outcome": outcome_line(last)},
        "next": orders.get(last.mac),
    }


def _names(options: argparse.Namespace) -> Mapping[str, str]:
    """MAC -> its host name: the reserved one, or that of its lease. Empty where no addresses are leased."""
    try:
        source = leases_of(options)
        leased = {record["mac"]: record["hostname"] for record in source.leases(Selection()) if record["hostname"]}
        reserved = {
            mac: record["hostname"]
            for record in source.reservations()
            if record["hostname"]
            for mac in (record["mac"], *record["other_macs"])
        }
    except CommandError:
        return {}
    return {**leased, **reserved}


def _orders(options: argparse.Namespace) -> Mapping[str, str]:
    """MAC -> the file that it boots next, once. Empty where no resolver takes such orders."""
    try:
        orders: Sequence[Record] = orders_of(
            load_config(options.config, os.environ), options, changes=False
        ).next_boots()
    except CommandError:
        return {}
    return {order["mac"]: order["file"] for order in orders}


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
