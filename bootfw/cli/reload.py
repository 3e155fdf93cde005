"""``bootfw reload``: makes a running server load its configuration again."""

import argparse
import os
import sys
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.running import RestartNeeded
from bootfw.cli.statedir import report_not_running, running, state_of
from bootfw.config.configuration import load_config
from bootfw.terminal import printable

REFUSED = 1
"""Exit code: the configuration is wrong; the server keeps the one that it has."""

RESTART = 4
"""Exit code: the configuration is right and needs a restart; the server keeps the one that it has."""

ABOUT = """
Makes a running server load its configuration again. Transfers in flight keep the configuration with which they began,
and sockets that both configurations contain stay open. If the configuration is wrong, or a change needs a restart,
nothing is changed, and each error is printed.
"""

EPILOG = """
Examples:
  bootfw reload -c /etc/bootfw/bootfw.toml && echo applied
  bootfw reload -c /etc/bootfw/bootfw.toml || [ $? != 4 ] || systemctl restart bootfw

SIGHUP does the same, and the log has the result.

Exit codes: 0 the configuration is in use, 1 it is wrong, 3 no server runs, 4 it is right and needs a restart.
"""


def add_reload(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "reload",
        help="apply a changed configuration without a restart",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    command.set_defaults(run=_reload, failed=REFUSED)


def _reload(options: argparse.Namespace) -> int:
    state = state_of(load_config(options.config, os.environ))
    server = running(state)
    if server is None:
        return report_not_running(state)
    try:
        server.reload()
    except CommandError as error:
        for line in str(error).split("\n"):
            sys.stderr.write(f"bootfw: {printable(line)}\n")
        return RESTART if isinstance(error, RestartNeeded) else REFUSED
    sys.stdout.write("reloaded\n")
    return 0
