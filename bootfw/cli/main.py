"""``bootfw``: the command and its subcommands."""

import argparse
import os
import sys
from collections.abc import Sequence

from bootfw import __version__
from bootfw.cli.boots import add_boots
from bootfw.cli.completion import add_completion
from bootfw.cli.doctor import add_doctor
from bootfw.cli.drain import add_drain
from bootfw.cli.explain import add_explain
from bootfw.cli.images import add_images
from bootfw.cli.install import add_install
from bootfw.cli.leases import add_leases
from bootfw.cli.lint import add_lint
from bootfw.cli.manpage import add_manpage
from bootfw.cli.next import add_next
from bootfw.cli.personas import add_personas
from bootfw.cli.probe import add_probe
from bootfw.cli.reload import add_reload
from bootfw.cli.render import add_render
from bootfw.cli.replay import add_replay
from bootfw.cli.run import add_run
from bootfw.cli.status import add_status
from bootfw.cli.storm import add_storm
from bootfw.config.configuration import ConfigErrors
from bootfw.errors import BootfwError
from bootfw.terminal import escape_unencodable, printable

WRONG = 1
"""Exit code: the command failed."""

INTERRUPTED = 128 + 2
"""Exit code: the operator has interrupted it, as shells have it for SIGINT."""

_EPILOG = """
Examples:
  bootfw run                        try it: serve what is installed, with the log on the terminal
  bootfw status                     what the server does
  bootfw probe 127.0.0.1            would a machine boot from it?
  bootfw doctor                     what keeps it from working?

"bootfw COMMAND --help" has the options of a command, and examples.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    whole = argparse.ArgumentParser(
        "bootfw",
        description="Runs a bootfw server and looks after one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"bootfw {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_run(commands)
    add_doctor(commands)
    add_explain(commands)
    add_boots(commands)
    add_images(commands)
    add_install(commands)
    add_leases(commands)
    add_lint(commands)
    add_personas(commands)
    add_next(commands)
    add_reload(commands)
    add_drain(commands)
    add_render(commands)
    add_replay(commands)
    add_probe(commands)
    add_status(commands)
    add_storm(commands)
    add_completion(commands, whole)
    add_manpage(commands, whole)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; misuse ends it with code 2.

    :return: the exit code.
    """
    escape_unencodable()
    options = parser().parse_args(arguments)
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
