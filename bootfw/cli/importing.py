"""``bootfw import``: a configuration of bootfw from those of other servers."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bootfw.build import assemble
from bootfw.cli.failure import CommandError
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.importing.formats import FORMATS, import_files
from bootfw.importing.outcome import CLEAN, Fate, Line, Outcome, UnreadableConfiguration
from bootfw.terminal import printable

LEFT_OUT = 3
"""Exit code: the operator has to look at some lines."""

_LARGEST = 16 * 1024 * 1024
"""Bytes of a file; dnsmasq's own lists of names are not larger."""

_ABOUT = """
Reads the configuration of another server, and writes one of bootfw that does the same. On standard error it reports
what became of every line that needs a look; --report writes what became of all lines into a file. Leases are
imported by "bootfw leases import".

The format of each file is recognized. Several files, such as those of dnsmasq and of tftpd-hpa, give one configuration.
Exit codes: 0 every line is expressed or not needed, 3 some lines need a look, 2 a file can't be read.
"""

_EPILOG = """
Examples:
  bootfw import /etc/dnsmasq.conf                         show the configuration, and what is left out
  bootfw import /etc/dnsmasq.conf /etc/default/tftpd-hpa -o /etc/bootfw/bootfw.toml --report import.txt
  bootfw import --json /etc/dnsmasq.conf                  for a program
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
    command.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a configuration, or a directory of them")
    command.add_argument(
        "--from", dest="format", default="", choices=tuple(FORMATS), help="the format of the files (it is recognized)"
    )
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to write it (standard output)")
    command.add_argument("--report", metavar="FILE", type=Path, help="where to report on every line")
    command.add_argument("--json", action="store_true", help="configuration and report as JSON")
    command.set_defaults(run=_import, failed=2)


def _import(options: argparse.Namespace) -> int:
    try:
        files = [(str(path), _load(path)) for given in options.files for path in _files(given)]
        draft = import_files(files, _load, options.format)
    except UnreadableConfiguration as error:
        raise CommandError(str(error)) from error
    text = draft.text()
    for problem in _problems(text):
        draft.note(Line(files[0][0], 0), Fate.LEFT_OUT, f"bootfw run --check refuses the result: {problem}")
    if options.report:
        options.report.write_text("".join(f"{line}\n" for line in _report(draft.outcomes)))
    if options.output:
        options.output.write_text(text)
    if options.json:
        record = {
            "configuration": text,
            "lines": [outcome.record for outcome in sorted(draft.outcomes, key=_place)],
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


def _files(given: Path) -> Iterator[Path]:
    """The files of a directory, without those that editors and package managers leave."""
    if not given.is_dir():
        yield given
        return
    found = [path for path in sorted(given.iterdir()) if path.is_file() and not path.name.endswith("~")]
    found = [path for path in found if ".dpkg-" not in path.name and not path.name.startswith(".")]
    if not found:
        raise UnreadableConfiguration(f"{given}: there is no file in it")
    yield from found


def _load(path: Path) -> str:
    """:raise UnreadableConfiguration: it is too large."""
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UnreadableConfiguration(f"{path}: it is larger than {_LARGEST >> 20} MiB, and is no configuration")
    return data.decode("utf-8-sig", "surrogateescape")


def _problems(text: str) -> Sequence[str]:
    """What ``bootfw run --check`` says about *text*."""
    with tempfile.TemporaryDirectory(prefix="bootfw-import-") as directory:
        path = Path(directory, "bootfw.toml")
        path.write_text(text, "utf-8", "surrogateescape")
        try:
            assemble(load_config(path, {}), None)
        except ConfigErrors as errors:
            return [line.removeprefix(f"{path}: ") for line in errors.lines]
    return []


def _report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in sorted(outcomes, key=_place):
        yield printable(f"{outcome.fate.value}: {outcome.line}: {outcome.line.text}".rstrip(": "))
        if outcome.reason:
            yield printable(f"    {outcome.reason}")


def _place(outcome: Outcome) -> Line:
    return outcome.line
