"""``bootfw storm``: boots many simulated machines from a server, and prints a summary."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve

from bootfw.cli.failure import CommandError
from bootfw.config.configuration import ConfigErrors
from bootfw.errors import ConfigError
from bootfw.net.linux.portowner import inodes_of

_EPILOG = """
Examples:
  bootfw storm --machines 1000 --boot emulab --lab "bootfw run -c bootfw.toml"
  bootfw storm --machines 200 --boot tftp --server 127.0.0.1 --file pxelinux.0
  bootfw storm rack.toml --interface eth1 --allow 10.20.0.0/16 --plot rack.svg

With --lab the server runs in a network namespace of its own, as 10.77.0.1/16 on eth0; a second one is 10.77.0.2, and
so on. A server gets port 67 and all others there; the simulated machines are in another namespace. This needs root,
iproute2 and nftables.
"""


def add_storm(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "storm",
        help="boot many simulated machines from a server",
        description="Boots simulated machines with the timers of real firmware, and prints how many booted and when.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario", nargs="?", type=Path, metavar="SCENARIO", help="a TOML file; without it, see --boot"
    )
    parser.add_argument("--list", action="store_true", help="list the built-in boots")
    parser.add_argument("-n", "--machines", type=int, metavar="N", help="how many machines")
    parser.add_argument("-b", "--boot", action="append", default=[], metavar="NAME[=SHARE]", help="what they boot")
    parser.add_argument("--arrival", choices=("at-once", "poisson", "racks"), help="when they are switched on")
    for key, help_text in _NUMBERS.items():
        parser.add_argument(f"--{key}", type=float, metavar="X", help=help_text)
    parser.add_argument("--seed", type=int, metavar="N", help="of all that is random")
    parser.add_argument("--interface", default="", metavar="NAME", help="broadcast DHCP messages here")
    parser.add_argument("--server", default="127.0.0.1", metavar="ADDRESS", help="TFTP server of boots without DHCP")
    parser.add_argument("--file", default="", metavar="NAME", help="boot file of boots without DHCP: a path or URL")
    parser.add_argument(
        "--allow", action="append", default=[], type=IPv4Network, metavar="NETWORK", help="send packets there, too"
    )
    parser.add_argument(
        "--lab",
        action="append",
        type=shlex.split,
        metavar="COMMAND",
        help="run this server in a namespace; again: one more, such as a DHCP server beside a proxy",
    )
    parser.add_argument(
        "--warm-up", type=float, default=30.0, metavar="SECONDS", help="until a server has opened its ports, at most"
    )
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="of the simulator; default: one per core")
    parser.add_argument("--json", action="store_true", help="all figures, or the list, as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="machines by stage against time: .svg, .png or .pdf")
    parser.set_defaults(run=_run)


_NUMBERS = {
    "seconds": "seconds after the last machine was switched on until the storm ends",
    "rate": "with --arrival poisson: machines a second",
    "rack": "with --arrival racks: machines in a rack",
    "rack-seconds": "with --arrival racks: seconds between racks",
    "loss": "the share of packets that are lost, 0 to 1",
    "duplication": "the share of packets that come twice",
    "reordering": "the share of packets that come late",
    "delay": "seconds that every packet takes",
    "jitter": "seconds that a packet takes longer, at most",
    "slow": "the share of machines that wait 4.8 s before they acknowledge an OACK",
}


def _run(options: argparse.Namespace) -> int:
    from bootfw.storm.lab import open_lab
    from bootfw.storm.report import as_json, plot, summarize, table
    from bootfw.storm.scenario import Share, read_scenario
    from bootfw.storm.storm import Target, run

    changes = {
        key: value for key in (*_NUMBERS, "machines", "arrival", "seed") if (value := _option(options, key)) is not None
    }
    if "rack" in changes:
        changes["rack"] = int(changes["rack"])
    try:
        shares = tuple(_share(text, Share) for text in options.boot)
        scenario = read_scenario(options.scenario, shares, changes)
    except ConfigError as error:
        source = options.scenario or "the command line"
        raise ConfigErrors([f"{source}: {one}" for one in error.each]) from error
    if options.list:
        boots = scenario.boots.values()
        if options.json:
            sys.stdout.write(json.dumps([{"name": boot.name, "about": boot.about} for boot in boots], indent=2) + "\n")
        else:
            sys.stdout.writelines(f"{boot.name:18} {boot.about}\n" for boot in boots)
        return 0
    target = Target(options.interface, options.server, options.file, allowed=tuple(options.allow))
    if options.interface and not options.allow and options.lab is None:
        raise CommandError(f"say with --allow NETWORK which servers on {options.interface} may be hit")
    with ExitStack() as stack:
        if options.lab is not None:
            lab = stack.enter_context(open_lab(loss=scenario.storm.loss, servers=len(options.lab)))
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="bootfw-storm-")))
            target = evolve(target, lab=lab, interface=lab.interface, server=lab.servers[0].address)
            for host, command in zip(lab.servers, options.lab, strict=True):
                log = directory / f"{host.address}.log"
                server = stack.enter_context(host.running(command, log))
                _wait_for(server, log, options.warm_up)
        show = _Progress(scenario.storm.machines)
        outcomes, efforts = run(scenario, target, options.processes, show)
        show.end()
    summary = summarize(outcomes, efforts)
    if options.json:
        sys.stdout.write(json.dumps(as_json(summary, outcomes), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join([*table(summary), ""]))
    if options.plot is not None:
        plot(outcomes, options.plot, f"{summary.booted} of {summary.machines} machines booted")
    return 0 if summary.booted == summary.machines else 1


def _option(options: argparse.Namespace, key: str) -> Any:
    return getattr(options, key.replace("-", "_"))


def _share(text: str, kind: Any) -> Any:
    name, _, share = text.partition("=")
    try:
        return kind(name, float(share) if share else 1.0)
    except ValueError:
        raise ConfigError(f"--boot {text}: the share must be a number above 0") from None


_SETTLE_SECONDS = 1.0
"""Seconds that a server has to open its other ports after the DHCP port."""

_DHCP_PORT = 67


def _wait_for(server: "Popen[bytes]", log: Path, seconds: float) -> None:
    """Wait until the server has opened the DHCP port; one without DHCP has all of *seconds*.

    :raise CommandError: it has ended.
    """
    deadline, settling = time.monotonic() + seconds, False
    while True:
        now = time.monotonic()
        # Of any process in the server's network namespace.
        if not settling and any(inodes_of(Path(f"/proc/{server.pid}/net/udp"), _DHCP_PORT)):
            deadline, settling = min(deadline, now + _SETTLE_SECONDS), True
        if now >= deadline:
            return
        try:
            code = server.wait(min(0.1, deadline - now))
        except TimeoutExpired:
            continue
        break
    lines: Sequence[str] = log.read_text(errors="replace").splitlines()[-5:]
    raise CommandError("\n".join([f"the server has ended with exit code {code}:", *lines]))


class _Progress:
    """Shows the progress of the storm on a terminal."""

    def __init__(self, machines: int) -> None:
        self._machines = machines
        self._is_shown = sys.stderr.isatty()

    def __call__(self, progress: Any) -> None:
        if self._is_shown:
            stages = ", ".join(
                f"{count} {name}" for name, count in sorted(progress.stages, key=lambda each: -each[1])[:3]
            )
            line = f"{progress.booted} of {self._machines} booted, {progress.failed} failed; {stages}"
            sys.stderr.write(f"\r\x1b[K{line[:110]}")
            sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
