"""``bootfw power``: switches machines by their management controllers."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bootfw.power
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import HELP, machine_mac
from bootfw.config.configuration import load_config
from bootfw.errors import ConfigError, PowerError
from bootfw.interfaces import IPower
from bootfw.terminal import printable
from bootfw.values import PowerAction

_ABOUT = """
Switches machines by their management controllers, as the table "power" of their host files says: by Redfish, with the
plugin redfish. A machine is switched off, or started anew, without its system being shut down.

No server has to run.
"""

_EXAMPLES = """
Examples:
  bootfw power 52:54:00:12:34:56 status                        is it on?
  bootfw power 52:54:00:12:34:56 on                            switch it on
  bootfw power --network 52:54:00:12:34:56 reset               start it anew, and boot it from the network, once
  bootfw power 52:54:00:12:34:56 52:54:00:12:34:57 off         switch both off

Exit codes: 0 done, 1 something could not be done.
"""

_STATUS = "status"

_DONE = {PowerAction.ON: "switched on", PowerAction.OFF: "switched off", PowerAction.RESET: "started anew"}

AT_ONCE = 16
"""Controllers that are called at the same time."""


def add_power(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "power",
        help="switch machines on and off",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("macs", nargs="+", metavar="MACHINE", help=HELP)
    parser.add_argument("action", choices=[*(action.value for action in PowerAction), _STATUS], help="what to do")
    parser.add_argument(
        "--network", action="store_true", help="with on and reset: the start is from the network, and no later one"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    parser.set_defaults(run=lambda options: _power(options, parser))


def power_of(assembly: Assembly, mac: str) -> IPower:
    """Return the power of a machine, as its host file has it.

    :raise CommandError: the host file has no power, or it is wrong.
    """
    host = assembly.host_files.of(mac)
    try:
        power = bootfw.power.power_of(host, assembly.configuration)
    except ConfigError as error:
        raise CommandError("\n".join(f"the host file of {host['name']}: {each}" for each in error.each)) from error
    if power is None:
        host_file = f"the host file of {host['name']}" if host else "a host file of its own"
        raise CommandError(f'{mac}: add to {host_file}: [power] use = "redfish", address = "https://ADDRESS"')
    return power


def _power(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.network and options.action not in (PowerAction.ON.value, PowerAction.RESET.value):
        parser.error("--network is for on and reset")
    assembly = Assembly(load_config(options.config, os.environ))
    macs = dict.fromkeys(machine_mac(text, assembly) for text in options.macs)
    powers = {mac: power_of(assembly, mac) for mac in macs}
    do = _state if options.action == _STATUS else _Switch(PowerAction(options.action), options.network)
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        pending = {mac: threads.submit(do, power) for mac, power in powers.items()}
        for mac, result in pending.items():
            try:
                sys.stdout.write(f"{mac}: {result.result()}\n")
            except PowerError as error:
                failed.append(f"{mac}: {error}")
    for line in failed:
        sys.stderr.write(f"bootfw: {printable(line)}\n")
    return 1 if failed else 0


def _state(power: IPower) -> str:
    return power.state().value


class _Switch:
    """Switches the power of one machine.

    :param network: whether it boots from the network then.
    """

    def __init__(self, action: PowerAction, network: bool) -> None:
        self._action, self._network = action, network

    def __call__(self, power: IPower) -> str:
        if self._network:
            power.boot_from_network()
        power.switch(self._action)
        return _DONE[self._action] + (", and boots from the network" if self._network else "")
