"""``bootfw import``: a configuration of bootfw from those of other servers."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bootfw.backends.names import mac_address
from bootfw.build import assemble
from bootfw.cli.dhcp6client import Multicasts
from bootfw.cli.dhcpclient import Broadcasts, Link, Relayed
from bootfw.cli.failure import CommandError
from bootfw.cli.importdiff import compare, questions
from bootfw.cli.importdiff6 import compare6, questions6
from bootfw.cli.netboot import RealServers
from bootfw.cli.tables import table
from bootfw.config.configuration import ConfigErrors, Configuration, load_config
from bootfw.importing.cobbler import KINDS, Item, item
from bootfw.importing.formats import FORMATS, import_files
from bootfw.importing.options import is_address
from bootfw.importing.outcome import CLEAN, Fate, Line, Outcome, UnreadableConfiguration
from bootfw.importing.tree import CONFIGURATIONS, PROGRAMS
from bootfw.terminal import printable

LEFT_OUT = 3
"""Exit code: the operator has to look at some lines."""

DIFFERENT = 1
"""Exit code: the old server and the new configuration answer differently."""

_LARGEST = 16 * 1024 * 1024
"""Bytes of a file; dnsmasq's own lists of names are not larger."""

_ABOUT = """
Reads the configuration of another server, and writes one of bootfw that does the same. On standard error it reports
what became of every line that needs a look; --report writes what became of all lines into a file. Leases are
imported by "bootfw leases import".

With --diff the old server is asked what clients of several kinds get, and the machines that the configuration names; so
is the new configuration, and what differs is shown. The old server gives no lease. Nothing is written without -o.

The format of each file is recognized. Several files, such as those of dnsmasq and of tftpd-hpa, give one configuration.
Exit codes: 0 every line is expressed or not needed, 3 some lines need a look, 2 a file can't be read. With --diff: 0
all answers are the same, 1 some differ, 2 they can't be compared.
"""

_EPILOG = """
Examples:
  bootfw import /etc/dnsmasq.conf                         show the configuration, and what is left out
  bootfw import /etc/dnsmasq.conf /etc/default/tftpd-hpa -o /etc/bootfw/bootfw.toml --report import.txt
  bootfw import --json /etc/dnsmasq.conf                  for a program
  bootfw import /etc/dnsmasq.conf --diff 10.0.0.1         does the running dnsmasq answer the same?
  bootfw import kea-dhcp6.conf --diff fd77::1 -i eth0     does the running Kea, by DHCPv6?
"""


def add_importing(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "import",
        help="make a configuration from that of another server",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="a configuration, a directory of them or of boot files, or Cobbler's collections",
    )
    command.add_argument(
        "--from", dest="format", default="", choices=tuple(FORMATS), help="the format of the files (it is recognized)"
    )
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to write it (standard output)")
    command.add_argument("--report", metavar="FILE", type=Path, help="where to report on every line")
    command.add_argument("--json", action="store_true", help="configuration and report as JSON")
    command.add_argument(
        "--diff",
        metavar="SERVER",
        default="",
        help="the address of the old server, which runs; an IPv6 address asks by DHCPv6",
    )
    command.add_argument(
        "-i",
        "--interface",
        default="",
        help="with --diff: ask in the network of this interface, as clients do (root); DHCPv6 needs it",
    )
    command.add_argument(
        "--mac",
        action="append",
        default=[],
        metavar="MAC",
        help="with --diff: a machine to ask about, instead of those that the configuration names; repeatable",
    )
    command.set_defaults(run=_import, failed=2)


def _import(options: argparse.Namespace) -> int:
    try:
        trees = [source for source in options.files if _is_tree(source)]
        collections = [source for source in options.files if _are_collections(source)]
        configurations = [source for source in options.files if source not in trees and source not in collections]
        files = [(str(path), _load(path)) for source in configurations for path in _files(source)]
        items = [each for source in collections for each in _items(source)]
        tree_files = [(str(tree.absolute()), list(_files_of_tree(tree))) for tree in trees]
        draft = import_files(files, _load, options.format, tree_files, items)
    except UnreadableConfiguration as error:
        raise CommandError(str(error)) from error
    if (options.interface or options.mac) and not options.diff:
        raise CommandError("--interface and --mac are for --diff SERVER")
    text = draft.text()
    for problem in _problems(text):
        draft.note(Line(str(options.files[0]), 0), Fate.LEFT_OUT, f"bootfw run --check refuses the result: {problem}")
    if options.report:
        options.report.write_text("".join(f"{line}\n" for line in _report(draft.outcomes)))
    if options.output:
        options.output.write_text(text)
    if options.diff:
        return _diff(options, text)
    if options.json:
        record = {
            "configuration": text,
            "lines": [outcome.record for outcome in _in_order(draft.outcomes)],
            "counts": {fate.value: count for fate, count in draft.counts().items()},
        }
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        if not options.output:
            sys.stdout.write(text)
            sys.stdout.flush()
        unclean = [outcome for outcome in draft.outcomes if outcome.fate not in CLEAN]
        sys.stderr.write("".join(f"{line}\n" for line in _report(unclean)))
        counts = ", ".join(f"{count} {fate.value}" for fate, count in draft.counts().items() if count)
        sys.stderr.write(f"lines: {counts or 'none'}\n")
    return 0 if draft.clean else LEFT_OUT


def _diff(options: argparse.Namespace, text: str) -> int:
    six = is_address(options.diff, 6)
    if not (six or is_address(options.diff, 4)):
        raise CommandError(f"--diff {options.diff}: is no address")
    if six and not options.interface:
        raise CommandError("a DHCPv6 server is asked in its own network: name the interface by --interface")
    macs = [mac_address(mac) for mac in options.mac]
    if "" in macs:
        raise CommandError(f'--mac {options.mac[macs.index("")]}: is not a MAC address, such as "52:54:00:12:34:56"')

    from twisted.internet import reactor  # the clock of the new configuration; it does not run

    with _loaded(text) as configuration:
        if six:
            clients, omitted = questions6(configuration, macs)
            query = Multicasts(options.interface, options.diff).query
            comparisons = compare6(configuration, options.diff, query, clients, reactor)
        else:
            clients, omitted = questions(configuration, macs)
            link: Link = Broadcasts(options.interface) if options.interface else Relayed(options.diff)
            comparisons = compare(configuration, options.diff, link, RealServers(), clients, reactor)
    different = [each for each in comparisons if each.differences]
    if options.json:
        record = {
            "server": options.diff,
            "clients": [each.record for each in comparisons],
            "machines_not_asked_about": omitted,
        }
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        rows = [("CLIENT", "WHAT", "OLD SERVER", "NEW CONFIGURATION")]
        for each in different:
            for difference in each.differences:
                rows.append((str(each.question), difference.part, difference.old or "-", difference.new or "-"))
        if different:
            sys.stdout.write(table(rows) + "\n")
        sys.stdout.write(f"{len(comparisons)} clients were asked about, {len(different)} of them get other answers\n")
        if omitted:
            sys.stdout.write(f"{omitted} machines were not asked about: name them by --mac\n")
    return DIFFERENT if different else 0


@contextmanager
def _loaded(text: str) -> Iterator[Configuration]:
    """The configuration that *text* is.

    :raise CommandError: it is refused.
    """
    with tempfile.TemporaryDirectory(prefix="bootfw-import-") as directory:
        path = Path(directory, "bootfw.toml")
        path.write_text(text, "utf-8", "surrogateescape")
        try:
            yield load_config(path, {})
        except ConfigErrors as errors:
            raise CommandError(f"the new configuration is refused: {errors.lines[0]}") from errors


def _is_tree(directory: Path) -> bool:
    """Return whether a directory has boot files for machines, and not configurations of servers."""
    return directory.is_dir() and (
        (directory / CONFIGURATIONS).is_dir() or any(PROGRAMS.fullmatch(path.name) for path in directory.iterdir())
    )


def _are_collections(directory: Path) -> bool:
    """Return whether a directory has the collections of Cobbler, /var/lib/cobbler/collections or
    /var/lib/cobbler/config."""
    return any(
        (directory / f"systems{suffix}").is_dir() and (directory / f"distros{suffix}").is_dir() for suffix in ("", ".d")
    )


def _items(collections: Path) -> Iterator[Item]:
    for kind in KINDS:
        for suffix in ("", ".d"):
            for path in sorted((collections / f"{kind}{suffix}").glob("*.json")):
                yield item(kind, str(path), _load(path))


def _files_of_tree(tree: Path) -> Iterator[str]:
    """Yield the files of a tree that may be configurations or boot programs; links are not followed out of it."""
    for directory, _, names in os.walk(tree):
        parent = Path(directory)
        of_configurations = parent.name == CONFIGURATIONS
        for name in names:
            if of_configurations or PROGRAMS.fullmatch(name):
                yield str((parent / name).relative_to(tree))


def _files(source: Path) -> Iterator[Path]:
    """Yield the files of a directory, without those that editors and package managers leave."""
    if not source.is_dir():
        yield source
        return
    found = [path for path in sorted(source.iterdir()) if path.is_file() and not path.name.endswith("~")]
    found = [path for path in found if ".dpkg-" not in path.name and not path.name.startswith(".")]
    if not found:
        raise UnreadableConfiguration(f"{source}: there is no file in it")
    yield from found


def _load(path: Path) -> str:
    """:raise UnreadableConfiguration: it is too large."""
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UnreadableConfiguration(f"{path}: it is larger than {_LARGEST >> 20} MiB, and is no configuration")
    return data.decode("utf-8-sig", "surrogateescape")


def _problems(text: str) -> Sequence[str]:
    """Return the errors that ``bootfw run --check`` reports for the configuration in *text*."""
    with tempfile.TemporaryDirectory(prefix="bootfw-import-") as directory:
        path = Path(directory, "bootfw.toml")
        path.write_text(text, "utf-8", "surrogateescape")
        try:
            assemble(load_config(path, {}), None)
        except ConfigErrors as errors:
            return [line.removeprefix(f"{path}: ") for line in errors.lines]
    return []


def _in_order(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Return the outcomes in the order of the lines in the files."""
    return sorted(outcomes, key=lambda outcome: outcome.line)


def _report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in _in_order(outcomes):
        yield printable(f"{outcome.fate.value}: {outcome.line}: {outcome.line.text}".rstrip(": "))
        if outcome.reason:
            yield printable(f"    {outcome.reason}")
