"""``bootfw run``: the server in the foreground, without a pid file; what ``twistd --nodaemon bootfw`` does."""

import argparse
import sys
from typing import Any

_EPILOG = """
Examples:
  bootfw run                              serve what is installed, on the defaults
  bootfw run -c /etc/bootfw/bootfw.toml   serve by a configuration
"""


def add_run(commands: Any) -> None:
    """Add the command to those of the parser."""
    # No character begins an option here: all that follows belongs to bootfw.tap, --help included.
    parser = commands.add_parser(
        "run",
        help="run the server in the foreground",
        description="Runs the server in the foreground, with its log on the terminal.",
        epilog=_EPILOG,
        prefix_chars="\0",
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*", help='options of the server, which "bootfw run --help" shows')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from twisted.scripts import twistd  # these take a while to import, and install a reactor

    from bootfw.tap import RunOptions

    # Misuse, --help and --check end here, before twistd would answer in the name of "twistd bootfw".
    RunOptions().parseOptions(options.arguments)  # type: ignore[no-untyped-call]
    sys.argv[1:] = ["--nodaemon", "--pidfile=", "bootfw", *options.arguments]
    twistd.run()
