"""``bootfw completion``: prints a script for command-line completion in a shell, generated from the parser."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import shtab

from bootfw.cli.failure import CommandError

SHELLS = ("bash", "zsh", "fish")

EPILOG = """
Examples:
  bootfw completion bash > /etc/bash_completion.d/bootfw
  bootfw completion zsh  > /usr/local/share/zsh/site-functions/_bootfw
  bootfw completion fish > ~/.config/fish/completions/bootfw.fish

A new shell uses it. Print it again after an update of bootfw.
"""


def add_completion(commands: Any, whole: argparse.ArgumentParser) -> None:
    """Add the command to those of the parser.

    :param whole: the parser of the whole command line.
    """
    command = commands.add_parser(
        "completion",
        help="print a script that completes this command in a shell",
        description="Prints a script for the shell, which then completes commands, options and files with the tab key.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=SHELLS, help="the shell")
    command.set_defaults(run=lambda options: _print(options.shell, whole))


def _print(shell: str, whole: argparse.ArgumentParser) -> None:
    if shell not in shtab.SUPPORTED_SHELLS:  # fish came after 1.7
        known = ", ".join(each for each in SHELLS if each in shtab.SUPPORTED_SHELLS)
        raise CommandError(
            f"shtab {shtab.__version__} writes no completion for {shell}, only for {known}: install a newer one"
        )
    for parser in parsers(whole).values():
        for action in parser._actions:
            if action.metavar == "FILE" or action.dest in ("config", "file", "arguments", "directories", "scenario"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(whole, shell) + "\n")


def parsers(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return command, such as "bootfw leases show" -> its parser; the first is *whole*."""
    return dict(_parsers(whole))


def _parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield parser.prog, parser
    for _, below in subcommands(parser):
        yield from _parsers(below)


def subcommands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """Return (help text, parser) for each subcommand of a parser."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [
                (choices_action.help or "", action.choices[choices_action.dest])
                for choices_action in action._choices_actions
            ]
    return found
