"""Overload: what is served in time when more is offered than can be served, beside Kea, dnsmasq and nginx.

``python benchmarks/overload.py`` needs root (network namespaces), a C compiler, and the programs that it compares:
dnsmasq is installed, Kea and nginx are unpacked and not installed. ``benchmarks/offered.c`` is the load: it begins
exchanges at a fixed rate, whether or not earlier ones were answered. Goodput is how many of them were complete within
four seconds, which is how long EDK2 waits for an OFFER before it sends another DISCOVER.

Every result is written to the file of ``--json`` as soon as it is there, and a run that is there already is not
repeated. ``--plot FILE`` draws all of them (the extra ``benchmarks``).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dhcp
from attrs import frozen
from dhcp import NAME, ip, network
from picture import COLOURS, Panel, Point, draw_panels
from servers import HERE, program, terminate
from storm import libraries

RATES = (250, 500, 1000, 2000, 4000, 8000)
PATIENCE = 4
RESULTS = HERE / "overload.json"
RELAY = "10.78.0.1"
POOL = "10.78.1.0", "10.78.255.250"
FILE = "file"
PROXY_RESOLVER = '[[resolver]]\nuse = "static"\nfile = "file"\n'

_Command = Callable[[Path], Sequence[object]]


def bootfw(work: Path, mode: str = "off", more_settings: str = "") -> Sequence[object]:
    """The checkout that this Python imports, with one worker."""
    (work / "bootfw.toml").write_text(
        f'[bootfw]\nworkers = 1\nstate-dir = "{work}/state"\n[tftp]\nlisten = ["0.0.0.0:69"]\n'
        f'[http]\nlisten = ["0.0.0.0:80"]\n[dhcp]\nmode = "{mode}"\n{more_settings}'
        f'[[backend]]\nuse = "directory"\nroot = "{work}/files"\n'
    )
    return [sys.executable, "-m", "bootfw.cli.main", "run", "-c", work / "bootfw.toml"]


def _subnet(probe_seconds: float) -> str:
    pool = f'pool = ["{POOL[0]}-{POOL[1]}"]\nrelays = ["{RELAY}"]\n'
    return f'probe-seconds = {probe_seconds}\n[[dhcp.subnet]]\nnetwork = "10.78.0.0/16"\n{pool}'


def dnsmasq(work: Path, *more_options: str) -> Sequence[object]:
    """Debian's dnsmasq-base."""
    options = (
        "--keep-in-foreground --conf-file=/dev/null --port=0 --user=root --pid-file= --log-facility=- --quiet-dhcp"
    )
    options += " --quiet-tftp --dhcp-lease-max=70000 --no-ping --enable-tftp --tftp-max=5000"
    paths = (f"--dhcp-leasefile={work}/leases", f"--tftp-root={work}/files")
    return [program("dnsmasq"), *options.split(), *paths, *more_options]


def kea(work: Path) -> Sequence[object]:
    """Debian's Kea, as dhcp.py has it."""
    command = dhcp.kea(work)
    configuration = work / "kea.json"
    text = configuration.read_text().replace('"subnet4": [{', '"subnet4": [{"id": 1, ').replace("10.77.", "10.78.")
    configuration.write_text(text)
    return command


def nginx(work: Path) -> Sequence[object]:
    """Debian's nginx with one worker."""
    server = program("nginx", HERE / "build" / "run")
    temporary = "".join(f"{kind}_temp_path {work};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (work / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; user root; pid {work}/nginx.pid; error_log {work}/nginx.err;\n"
        "events { worker_connections 65536; }\n"
        f"http {{ access_log off; sendfile on; {temporary}\n"
        f"server {{ listen 80 backlog=4096; root {work}/files; }} }}\n"
    )
    return ["env", libraries(server), server, "-c", work / "nginx.conf"]


@frozen
class Work:
    """What is offered, and to which servers."""

    about: str
    port: int
    name: str
    """As offered.c takes it."""
    servers: Mapping[str, _Command]


_RANGE = f"--dhcp-range={POOL[0]},{POOL[1]},255.255.0.0,1h"

WORK = {
    "dhcp": Work(
        "DISCOVER to ACK, new clients",
        67,
        RELAY,
        {
            "bootfw": partial(bootfw, mode="server", more_settings=_subnet(0)),
            "bootfw, probing": partial(bootfw, mode="server", more_settings=_subnet(0.2)),
            "kea": kea,
            "dnsmasq": lambda work: dnsmasq(work, _RANGE),
        },
    ),
    "proxy": Work(
        "DISCOVER to a proxy's OFFER",
        67,
        RELAY,
        {"bootfw": partial(bootfw, mode="proxy", more_settings=PROXY_RESOLVER)},
    ),
    "tftp": Work("TFTP: files of one block", 69, FILE, {"bootfw": bootfw, "dnsmasq": dnsmasq}),
    "missing": Work("TFTP: missing files", 69, "missing", {"bootfw": bootfw, "dnsmasq": dnsmasq}),
    "http": Work("HTTP: 500 bytes, a connection each", 80, f"/{FILE}", {"bootfw": bootfw, "nginx": nginx}),
}


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--works", nargs="+", choices=WORK, default=list(WORK))
    options.add_argument("--servers", nargs="+", choices=COLOURS, default=list(COLOURS))
    options.add_argument("--rates", type=int, nargs="+", default=list(RATES), help="exchanges offered in a second")
    options.add_argument("--seconds", type=int, default=8, help="of one run")
    options.add_argument("--minutes", type=float, default=60.0, help="begin no run after so long")
    options.add_argument("--again", action="store_true", help="repeat what is in the results already")
    options.add_argument("--json", type=Path, default=RESULTS, help="the results")
    options.add_argument("--plot", type=Path, help="draw all results here: .svg, .png or .pdf (needs matplotlib)")
    arguments = options.parse_args()
    if os.geteuid():
        sys.stderr.write("overload.py: network namespaces need root\n")
        return 2
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    load = HERE / "build/offered"
    load.parent.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", load, HERE / "offered.c"], check=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    with network(), routed():
        for name in arguments.works:
            for server in WORK[name].servers:
                rates = [
                    rate for rate in arguments.rates if arguments.again or f"{name}, {server}, {rate}" not in results
                ]
                if server in arguments.servers and rates:
                    for result in run(name, server, rates, arguments.seconds, deadline):
                        results[f"{name}, {server}, {result['rate']}"] = result
                        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    if arguments.plot:
        draw(results, arguments.plot)
    return 0


def run(name: str, server: str, rates: Sequence[int], seconds: int, deadline: float) -> Iterator[dict[str, Any]]:
    """The results of one server, one for each rate. It starts again for each, with all addresses of its pool free."""
    work = WORK[name]
    for rate in rates:
        if time.monotonic() > deadline:
            return
        with tempfile.TemporaryDirectory(prefix="bootfw-overload-") as scratch:
            os.chmod(scratch, 0o755)
            directory = Path(scratch)
            (directory / "files").mkdir()
            (directory / "files" / FILE).write_bytes(os.urandom(500))
            with running(work.servers[server](directory), directory, work.port):
                offer(name, 50, 2, 1)  # whatever is loaded at the first request
                sys.stderr.write(f"{name}, {server}, {rate}/s ... ")
                sys.stderr.flush()
                counts = offer(name, rate, seconds, 1001)
        goodput = counts["done"] / seconds
        sys.stderr.write(f"{goodput:.0f}/s\n")
        yield {"work": name, "server": server, "rate": rate, "goodput": goodput, **counts}


def offer(name: str, rate: int, seconds: int, first: int) -> dict[str, Any]:
    """Offer *rate* exchanges a second."""
    work = WORK[name]
    command = ["ip", "netns", "exec", f"{NAME}-clients", HERE / "build/offered"]
    command += [name, "10.77.0.1", work.port, rate, seconds, PATIENCE, work.name, first]
    result = subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True, timeout=seconds + 60
    )
    counts: dict[str, Any] = json.loads(result.stdout)
    return counts


@contextlib.contextmanager
def routed() -> Iterator[None]:
    """The addresses of the clients, and the network behind the relay, which has no hosts."""
    for number in range(1, 201):
        ip("-n", f"{NAME}-clients", "address", "add", f"10.77.2.{number}/16", "dev", "eth0")
    ip("-n", f"{NAME}-clients", "address", "add", f"{RELAY}/32", "dev", "lo")
    ip("-n", f"{NAME}-clients", "route", "add", "blackhole", "10.78.0.0/16")
    ip("-n", f"{NAME}-server", "route", "add", "10.78.0.0/16", "via", "10.77.0.2")
    yield


@contextlib.contextmanager
def running(command: Sequence[object], work: Path, port: int) -> Iterator[None]:
    """A server in its namespace."""
    output = work / "output"
    (work / "run").mkdir()
    environment = {**os.environ, "KEA_PIDFILE_DIR": f"{work}/run", "KEA_LOCKFILE_DIR": f"{work}/run"}
    prefix = ["ip", "netns", "exec", f"{NAME}-server"]
    with output.open("wb") as file:
        process = subprocess.Popen([*prefix, *map(str, command)], stdout=file, stderr=file, env=environment, cwd=work)
    try:
        deadline = time.monotonic() + 60
        tables = ["cat", "/proc/net/udp", "/proc/net/tcp"]
        while f":{port:04X} " not in subprocess.run([*prefix, *tables], capture_output=True, text=True).stdout:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen:\n{output.read_text()}")
            time.sleep(0.05)
        time.sleep(1)
        yield
    finally:
        terminate(process)


def show(results: Mapping[str, Any]) -> None:
    """The results as a table."""
    row = "{:8} {:16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6}\n"
    sys.stdout.write(row.format("work", "server", "offered", "goodput", "p50 s", "p99 s", "repeats", "load"))
    for each in results.values():
        sys.stdout.write(
            row.format(
                *(each["work"], each["server"], each["rate"], f"{each['goodput']:.0f}"),
                *(f"{each['p50']:.3f}", f"{each['p99']:.3f}", each["repeats"]),
                "limit" if each["late"] > each["offered"] / 10 else "",
            )
        )
    sys.stdout.write("load: where it says limit, the load was late, and the server was offered less\n")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw goodput against the offered rate.

    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    panels = []
    for name, work in WORK.items():
        points = sorted((each for each in results.values() if each["work"] == name), key=lambda each: each["rate"])
        highest = max((each["rate"] for each in points), default=1)
        panels.append(
            Panel(
                work.about,
                {
                    server: [Point(each["rate"], each["goodput"]) for each in points if each["server"] == server]
                    for server in work.servers
                },
                "offered in a second",
                f"complete within {PATIENCE} s, in a second",
                limit=(Point(0, 0), Point(highest, highest)),
            )
        )
    rows = [panels[start : start + 3] for start in range(0, len(panels), 3)]
    draw_panels(rows, path, "What is served when more is offered than can be served", one_scale=False)


if __name__ == "__main__":
    raise SystemExit(main())
