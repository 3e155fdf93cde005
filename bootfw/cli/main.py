"""``bootfw``: the command and its subcommands."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from bootfw import __version__
from bootfw.config.configuration import ConfigErrors
from bootfw.errors import BootfwError
from bootfw.terminal import escape_unencodable, printable

WRONG = 1
"""Exit code: the command failed."""

INTERRUPTED = 128 + 2
"""Exit code: the operator has interrupted the command. Shells use it for SIGINT."""

_EPILOG = """
Examples:
  bootfw run                        try it: serve what is installed, with the log on the terminal
  bootfw status                     what the server does
  bootfw probe 127.0.0.1            would a machine boot from it?
  bootfw doctor                     what keeps it from working?

"bootfw COMMAND --help" has the options of a command, and examples.
"""


_MODULES = (
    "run",
    "doctor",
    "explain",
    "boots",
    "machines",
    "images",
    "importing",
    "install",
    "power",
    "wake",
    "leases",
    "lint",
    "personas",
    "next",
    "reload",
    "drain",
    "receive",
    "render",
    "plugin",
    "replay",
    "probe",
    "status",
    "storm",
    "completion",
    "manpage",
)
"""The modules of bootfw.cli with a command, in the order of the help. The function ``add_MODULE`` adds it."""

_SECOND = {"show": "boots", "import": "importing"}
"""Command -> its module, where that has another name."""

_DESCRIBE_ALL = ("completion", "manpage")


def parser(only: str = "") -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    :param only: the first word of the command line. Where it is a command, or --version, the others are not in the
        parser.
    """
    whole = argparse.ArgumentParser(
        "bootfw",
        description="Runs and maintains a bootfw server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"bootfw {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Most commands need few modules. To import those of all commands takes half a second.
    module = _SECOND.get(only, only)
    names: Sequence[str] = _MODULES
    if only == "--version":
        names = ()
    elif module in _MODULES and module not in _DESCRIBE_ALL:
        names = (module,)
    for name in names:
        add = getattr(import_module(f"bootfw.cli.{name}"), f"add_{name}")
        add(*((commands, whole) if name in _DESCRIBE_ALL else (commands,)))
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; misuse ends it with code 2.

    :return: the exit code.
    """
    escape_unencodable()
    command_line = sys.argv[1:] if arguments is None else arguments
    options = parser(command_line[0] if command_line else "").parse_args(command_line)
    try:
        code: int = options.run(options) or 0
        sys.stdout.flush()
        return code
    except ConfigErrors as errors:
        lines: tuple[str, ...] = errors.lines
    except BootfwError as error:
        lines = (str(error),)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the pipe has gone, as in "bootfw leases | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        lines = (f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror),)
    for line in lines:
        sys.stderr.write(f"bootfw: {printable(line)}\n")
    return int(getattr(options, "failed", WRONG))


if __name__ == "__main__":
    sys.exit(main())
