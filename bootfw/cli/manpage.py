"""``bootfw manpage``: the manual page bootfw(1), from the same parser that reads the command line."""

import argparse
import re
import sys
from collections.abc import Iterator
from typing import Any

from bootfw import __version__
from bootfw.cli.completion import parsers, subcommands

EPILOG = """
Examples:
  bootfw manpage | man -l -                                 read it
  bootfw manpage > /usr/local/share/man/man1/bootfw.1       install it for "man bootfw"
"""


def add_manpage(commands: Any, whole: argparse.ArgumentParser) -> None:
    """Add the command to those of the parser.

    :param whole: the parser of the whole command line.
    """
    command = commands.add_parser(
        "manpage",
        help="print the manual page",
        description="Prints the manual page bootfw(1), with every command and option, for man.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=lambda options: sys.stdout.write("\n".join(manpage(whole)) + "\n") and None)


def manpage(whole: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines of the page, in the macros of man(7)."""
    yield f'.TH BOOTFW 1 "" "bootfw {__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"bootfw \- network boot services: DHCP, proxyDHCP, TFTP and HTTP"
    yield ".SH SYNOPSIS"
    yield r".B bootfw"
    yield _escaped("COMMAND [options]")
    yield ".SH DESCRIPTION"
    yield _escaped(f"{whole.description}")
    yield ".SH COMMANDS"
    for text, parser in subcommands(whole):
        yield ".TP"
        yield rf"\fB{_escaped(parser.prog)}\fR"
        yield _escaped(f"{text[:1].upper()}{text[1:]}.")
    for name, parser in parsers(whole).items():
        if parser is not whole:
            yield from _section(name, parser)
    yield ".SH SEE ALSO"
    yield _escaped("twistd(1), and the documentation of bootfw: docs/configuration.md has every key of its file.")


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SH {_escaped(name.upper())}"
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield rf"\fB{_escaped(name)}\fR{_escaped(usage.removeprefix(name))}"
    for paragraph in re.split(r"\n\s*\n", (parser.description or "").strip()):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        yield ".TP"
        yield rf"\fB{_escaped(invocation(action))}\fR"
        yield _escaped(help_of(action, parser))
    if parser.epilog:
        yield ".PP"
        yield ".nf"
        yield from (_escaped(line) for line in parser.epilog.strip().splitlines())
        yield ".fi"


def invocation(action: argparse.Action) -> str:
    """Return how an option or argument is written, such as ``-c, --config FILE``."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper().replace("_", "-")
    )
    if not action.option_strings:
        return str(value)
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def help_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return what an option or argument means, as a sentence."""
    variables = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % variables
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _escaped(text: str) -> str:
    r"""Return *text* escaped for roff, so that no line begins with a request, and hyphens can be copied."""
    safe = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe
