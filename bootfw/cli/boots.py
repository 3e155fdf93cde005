"""``bootfw boots`` and ``bootfw show``: list boot attempts, and show the stages and the verdict of one."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from bootfw.ability import provides
from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.attempttext import outcome_line, stage_line
from bootfw.attempts.record import Record, attempt_of, attempt_record
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import machine_client
from bootfw.cli.running import RunningServer, ServerEnded
from bootfw.cli.statedir import add_state_options, check_offline, configuration_in_use, running, state_of
from bootfw.config.configuration import Configuration
from bootfw.interfaces import IAttemptStore, IOfflineStore
from bootfw.terminal import aligned, moment, printable

NONE_FOUND = 1
"""Exit code: no boot was found, or the latest one of "show" has failed."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(\d+) ?(s|m|h|d)")
_POLL = 0.5
"""Seconds between two queries for changed boots."""

_COLOURS = {
    Verdict.BOOTED: "32",
    Verdict.UP: "32",
    Verdict.FAILED: "31",
    Verdict.IN_PROGRESS: "36",
    Verdict.NOTHING_TO_BOOT: "33",
    Verdict.ELSEWHERE: "33",
    Verdict.INTERRUPTED: "33",
}
_EXAMPLES = """
Examples:
  bootfw boots                       the latest boots, one per line
  bootfw boots --verdict failed      those that failed, and why
  bootfw boots --since "2 h" --json  those of the last two hours
  bootfw boots --follow              as they happen, until Ctrl-C

Exit codes: 0 found, 1 there is none.
"""

_SHOW_EXAMPLES = """
Examples:
  bootfw show 52:54:00:12:34:56             its latest boot: stages, verdict and likely cause
  bootfw show --limit 5 52:54:00:12:34:56   its latest five

Exit codes: 0 shown, 1 there is none, or the latest one has failed.
"""


def add_boots(commands: Any) -> None:
    """Add both commands to those of the parser."""
    parser = commands.add_parser(
        "boots",
        help="list the boots of machines, and why some failed",
        description="Lists the boots of machines, the latest first: of the running server, or those in its store.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_options(parser)
    verdicts = [verdict.value for verdict in Verdict]
    parser.add_argument("--mac", default="", metavar="MACHINE", help="only those of this machine: its MAC or name")
    parser.add_argument("--verdict", choices=verdicts, default="", metavar="VERDICT", help=", ".join(verdicts))
    parser.add_argument("--since", type=_since, default=0.0, metavar="AGE", help='not older, such as "2 h" or "3 d"')
    parser.add_argument("--limit", type=_count, default=50, metavar="COUNT", help="at most so many (50)")
    parser.add_argument(
        "--follow", action="store_true", help="go on, and show each boot when it begins and when its verdict is known"
    )
    parser.add_argument("--json", action="store_true", help="as JSON; with --follow one object a line")
    parser.set_defaults(run=_boots)
    showing = commands.add_parser(
        "show",
        help="show what one machine did, stage by stage",
        description="Shows the latest boots of a machine stage by stage, the verdict and its likely cause.",
        epilog=_SHOW_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_options(showing)
    showing.add_argument(
        "machine",
        metavar="MACHINE",
        help="its name or MAC address; its UUID or IP address where no MAC is known",
    )
    showing.add_argument("--limit", type=_count, default=1, metavar="COUNT", help="the latest so many boots (1)")
    showing.add_argument("--json", action="store_true", help="as JSON")
    showing.set_defaults(run=_show)


def _count(text: str) -> int:
    """Convert the number of a limit."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'must be a number from 1 on, not "{text}"')
    return int(text)


def _boots(options: argparse.Namespace) -> int:
    configuration = configuration_in_use(options.config)
    machine = _machine(options.mac, configuration) if options.mac else ""
    filters = {"machine": machine, "verdict": options.verdict, "since": options.since, "limit": options.limit}
    if options.follow:
        return _follow(options, configuration, filters)
    attempts = find_attempts(configuration, options, filters, "boots")
    if options.json:
        _print(json.dumps([attempt_record(attempt, stages=False) for attempt in attempts], indent=2))
    elif attempts:
        rows = [("BEGAN", "MACHINE", "CLIENT", "TOOK", "VERDICT")]
        rows += [(*_row(attempt), outcome_line(attempt)) for attempt in attempts]
        head, *lines = aligned(rows).splitlines()
        _print("\n".join([head, *(coloured(line, each.verdict) for line, each in zip(lines, attempts, strict=True))]))
    else:
        filtered = bool(options.mac or options.verdict or options.since)
        sys.stderr.write(f"bootfw: no boot {'matches' if filtered else 'is recorded yet'}\n")
    return 0 if attempts else NONE_FOUND


def _show(options: argparse.Namespace) -> int:
    configuration = configuration_in_use(options.config)
    machine = _machine(options.machine, configuration)
    attempts = find_attempts(configuration, options, {"machine": machine, "limit": options.limit}, "boot")
    if options.json:
        _print(json.dumps([attempt_record(attempt) for attempt in attempts], indent=2))
    elif attempts:
        _print("\n\n".join(coloured(timeline(attempt), attempt.verdict, 1) for attempt in attempts))
    else:
        sys.stderr.write(f"bootfw: {machine} has not booted\n")
    return NONE_FOUND if not attempts or attempts[0].verdict is Verdict.FAILED else 0


def timeline(attempt: BootAttempt) -> str:
    """Format a boot attempt for people: the machine, its stages, the verdict, and what to do."""
    duration = f"{attempt.seconds:.1f} s" if attempt.stages else ""
    details = [attempt.persona, attempt.architecture, attempt.interface and f"on {attempt.interface}"]
    lines = [
        f"{attempt.client}: {outcome_line(attempt)}",
        f"  {moment(attempt.began)}, {duration}; {', '.join(filter(None, details)) or 'came without DHCP'}",
    ]
    if attempt.addresses:
        lines.append(f"  addresses {', '.join(attempt.addresses)}")
    if attempt.cause is not None:
        lines.append(f"  What to do: {attempt.cause.remedy}")
    if attempt.recording:
        lines.append(f"  Its packets: {attempt.recording}")
    lines.append("")
    for stage in attempt.stages:
        lines.append(f"  {stage.at - attempt.began:+9.3f}  {stage_line(stage)}")
    if attempt.omitted:
        lines.append(f"  ({attempt.omitted} stages in between are left out)")
    return "\n".join(map(printable, lines))


def _row(attempt: BootAttempt) -> tuple[str, str, str, str]:
    return moment(attempt.began), attempt.client, attempt.persona or "-", f"{attempt.seconds:.0f} s"


def find_attempts(
    configuration: Configuration, options: argparse.Namespace, filters: Mapping[str, Any], operation: str
) -> Sequence[BootAttempt]:
    """Return the attempts of the running server, or those in its store if none runs; the latest first."""
    state = state_of(configuration)
    server = running(state)
    if server is not None:
        return [attempt_of(record) for record in server.call(operation, **filters)]
    check_offline(state, options, False)
    return stored_attempts(configuration, filters)


def stored_attempts(configuration: Configuration, filters: Mapping[str, Any]) -> Sequence[BootAttempt]:
    """Return the attempts in the store, which no server uses."""
    from bootfw.build import attempt_store  # with all that a server needs, which takes a while to import
    from bootfw.cli.offline import done

    name, store = attempt_store(configuration)
    attempts: IAttemptStore = store
    if not provides(store, IOfflineStore):
        raise CommandError(f'no server runs, and the store "{name}" can\'t be read without one')
    found: list[BootAttempt] = []
    try:
        done(attempts.find_attempts(**filters).addCallback(found.extend))
    finally:
        done(attempts.close_attempts())
    return found


def _follow(options: argparse.Namespace, configuration: Configuration, filters: Mapping[str, Any]) -> int:
    state = state_of(configuration)
    server = running(state)
    if server is None:
        raise CommandError(f"no server runs with the state directory {state}, so there is nothing to follow")
    with suppress(KeyboardInterrupt):
        for record in _verdict_changes(server):
            attempt = attempt_of(record)
            matches = filters["machine"] in ("", attempt.client) and attempt.began >= filters["since"]
            if matches and (not options.verdict or attempt.verdict.value == options.verdict):
                if options.json:
                    _print(json.dumps(record))
                else:
                    clock = datetime.fromtimestamp(attempt.ended or time.time()).strftime("%H:%M:%S")
                    duration = f"{attempt.seconds:.0f} s"
                    columns = (clock, attempt.client, attempt.persona or "-", duration, outcome_line(attempt))
                    _print(coloured(printable("  ".join(columns)), attempt.verdict))
                sys.stdout.flush()
    return 0


def changed_boots(server: RunningServer, sleep: Callable[[float], None] = time.sleep) -> Iterator[Sequence[Record]]:
    """Yield, every _POLL seconds and without end, the short records of the boots that have changed since the last ones.

    The first ones are those that the server has in memory. If the server ends, this waits for the next one.
    """
    after, waiting = -1, False
    while True:
        changed: list[Record] = []
        try:
            for record in server.call("boots", after=after):
                change = record.pop("change")
                # Changes are numbered. If nothing has changed, the only record is the latest number: one below ours
                # means that the server was restarted, and its numbers began again.
                after = change if "id" in record else -1 if change < after else change
                if "id" in record:
                    changed.append(record)
            if waiting:
                sys.stderr.write("bootfw: the server runs again\n")
            waiting = False
        except ServerEnded:
            if not waiting:
                sys.stderr.write("bootfw: the server has ended; waiting for it\n")
            after, waiting = -1, True
        yield changed
        sleep(_POLL)


def _verdict_changes(server: RunningServer, sleep: Callable[[float], None] = time.sleep) -> Iterator[Record]:
    """Yield the record of each boot whose verdict has changed, without end."""
    verdicts: dict[str, str] = {}
    for changed in changed_boots(server, sleep):
        for record in changed:
            if verdicts.get(record["id"]) != record["verdict"]:
                verdicts[record["id"]] = record["verdict"]
                yield record


def coloured(text: str, verdict: Verdict | None, lines: int = 0) -> str:
    """Colour *text*, or only its first line, by the verdict, if the terminal supports colours.

    :param verdict: None: no colour.
    :param lines: 0: all of *text*; 1: its first line.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    if verdict is None or plain or not sys.stdout.isatty():
        return text
    head, newline, rest = text.partition("\n") if lines else (text, "", "")
    return f"\x1b[{_COLOURS[verdict]}m{head}\x1b[0m{newline}{rest}"


def _machine(text: str, configuration: Configuration) -> str:
    return machine_client(text, Assembly(configuration))


def _since(text: str) -> float:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f'must be an age, such as "30 m", "2 h" or "3 d", not "{text}"')
    return time.time() - int(match[1]) * _UNITS[match[2]]


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
