"""Finds the state directory that a command uses, and the server that runs with it."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.running import RunningServer
from bootfw.config.configuration import Configuration, read_config
from bootfw.config.state import CONTROL_SOCKET, state_directory
from bootfw.terminal import printable

_VARIABLE = "BOOTFW_STATE_DIR"

NOT_RUNNING = 3
"""Exit code: the command needs a running server, and there is none."""


def add_state_options(parser: argparse.ArgumentParser, default: Any = None) -> None:
    """Add the options that determine the state directory.

    :param default: the default of each option; argparse.SUPPRESS leaves it to the parent parser.
    """
    parser.add_argument("-c", "--config", metavar="FILE", default=default, help="the configuration of the server")
    parser.add_argument(
        "--offline",
        action="store_true",
        default=default or False,
        help="change the stored state, for the next start, when no server runs",
    )


def state_of(configuration: Configuration) -> Path:
    """Return the state directory of a configuration."""
    return state_directory(configuration.settings.state_dir)


def configuration_in_use(path: str | None) -> Configuration:
    """Load the configuration by which a command finds the server that it queries.

    Errors are printed as warnings if that server runs: it started with, or has kept, a version without them.

    :raise ConfigErrors: there are errors, and no such server runs; or one is in [bootfw], which has "state-dir".
    """
    configuration, errors = read_config(path, os.environ)
    if any(error.path[:1] in ((), ("bootfw",)) for error in errors) or running(state_of(configuration)) is None:
        configuration.refuse(errors)
    for error in errors:
        sys.stderr.write(printable(f"bootfw: not in use: {configuration.format_error(error)}") + "\n")
    return configuration


def running(state: Path) -> RunningServer | None:
    """Return the server that runs with the state directory *state*; None: there is none.

    :raise OSError: there is a socket, and this user may not connect to it.
    """
    try:
        return RunningServer(state / CONTROL_SOCKET)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def report_not_running(state: Path, advice: str = "") -> int:
    """Print that no server runs with the state directory *state*; returns NOT_RUNNING.

    :param advice: the end of the message.
    """
    sys.stderr.write(f"bootfw: no server runs with the state directory {printable(str(state))}{advice}\n")
    return NOT_RUNNING


def check_offline(state: Path, options: argparse.Namespace, changes: bool, stopped: bool = False) -> None:
    """Decide whether a command may use the stored state while no server runs, and report that to the user.

    A change in the default state directory needs --offline: the user's server may have another directory.

    :param changes: whether the command changes the state.
    :param stopped: whether the command requires that no server runs.
    :raise CommandError: the command may not continue.
    """
    is_explicit = options.config is not None or _VARIABLE in os.environ
    if options.offline or (is_explicit and (stopped or not changes)):
        return
    reason = f"no server runs with the state directory {state}"
    if not is_explicit and changes:
        raise CommandError(
            f"{reason}: give your server's configuration with -c FILE, or change the stored state with --offline"
        )
    effect = "this takes effect with its next start" if changes else "this is the stored state"
    sys.stderr.write(f"bootfw: {reason}; {effect}\n")
