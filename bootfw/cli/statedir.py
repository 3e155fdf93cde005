"""The state directory that a command works on, and whether a server runs with it."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.running import RunningServer
from bootfw.config.configuration import Configuration
from bootfw.config.state import state_directory
from bootfw.net.control import SOCKET

_VARIABLE = "BOOTFW_STATE_DIR"


def add_state_options(parser: argparse.ArgumentParser, default: Any = None) -> None:
    """Add the options that say which state directory is meant.

    :param default: of each; argparse.SUPPRESS leaves it to the parser above.
    """
    parser.add_argument("-c", "--config", metavar="FILE", default=default, help="the configuration of the server")
    parser.add_argument(
        "--offline",
        action="store_true",
        default=default or False,
        help="change the stored state, for the next start, when no server runs",
    )


def state_of(configuration: Configuration) -> Path:
    """The state directory of the server that runs by *configuration*."""
    return state_directory(configuration.settings.state_dir)


def running(state: Path) -> RunningServer | None:
    """The server that runs with *state*; None: there is none.

    :raise OSError: the socket is there, and this user may not open it.
    """
    try:
        return RunningServer(state / SOCKET)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def check_offline(state: Path, options: argparse.Namespace, changes: bool, stopped: bool = False) -> None:
    """No server runs with *state*: see whether the command may go on, and say so.

    What is changed in a directory that is only the default may well be read by no server, ever.

    :param changes: the command does not only read.
    :param stopped: it is for servers that do not run.
    :raise CommandError: it may not.
    """
    named = options.config is not None or _VARIABLE in os.environ
    if options.offline or (named and (stopped or not changes)):
        return
    what = f"no server runs with the state directory {state}"
    if not named and changes:
        raise CommandError(
            f"{what}: give your server's configuration with -c FILE, or change the stored state with --offline"
        )
    effect = "this takes effect with its next start" if changes else "this is the stored state"
    sys.stderr.write(f"bootfw: {what}; {effect}\n")
