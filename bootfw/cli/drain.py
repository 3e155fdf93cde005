"""``bootfw drain``: makes a running server hand its clients over to the other nodes, and end."""

import argparse
import json
import os
import sys
import time
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.statedir import report_not_running, running, state_of
from bootfw.config.configuration import load_config

FAILED = 1
"""Exit code: the server refuses, or has not ended in time."""

WITHIN = 60.0
"""Seconds that transfers have to end, by default."""

_MORE = 30.0
"""Seconds that the server has after that to end."""

_CHECKED_EVERY = 0.2

ABOUT = """
Ends a running server without loss for its clients. /readyz reports at once that it is not ready, so that a load
balancer
moves the clients to other servers. Until it has done so, or the time is over, the server works as before. Then the
other servers of the cluster continue the transfers that have not ended. The command returns when the server has ended.

A server that is no node of a cluster accepts no new transfers, and waits this time for those that run.
"""

EPILOG = """
Examples:
  bootfw drain -c /etc/bootfw/bootfw.toml && apt upgrade bootfw && systemctl start bootfw
  bootfw drain -c /etc/bootfw/bootfw.toml --within 300

SIGTERM does the same within 5 seconds. A signal during a drain ends it.

Exit codes: 0 the server has ended, 1 it refuses or has not ended in time, 3 no server runs.
"""


def add_drain(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "drain",
        help="hand the clients over to other servers, and end",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    command.add_argument(
        "--within",
        metavar="SECONDS",
        type=float,
        default=WITHIN,
        help="how long the server waits for transfers (default: %(default).0f)",
    )
    command.add_argument("--json", action="store_true", help="print the result as a JSON object")
    command.set_defaults(run=_drain, failed=FAILED)


def _drain(options: argparse.Namespace) -> int:
    state = state_of(load_config(options.config, os.environ))
    server = running(state)
    if server is None:
        return report_not_running(state)
    began = time.monotonic()
    list(server.call("drain", within=options.within))
    while running(state) is not None:
        if time.monotonic() - began > options.within + _MORE:
            raise CommandError(f"the server has not ended within {options.within + _MORE:.0f} seconds")
        time.sleep(_CHECKED_EVERY)
    took = time.monotonic() - began
    text = json.dumps({"drained": True, "seconds": round(took, 3)}) if options.json else f"drained in {took:.1f} s"
    sys.stdout.write(f"{text}\n")
    return 0
