"""Whole boots in numbers, bootfw beside dnsmasq, tftpd-hpa and nginx: how long until every machine has booted.

``python benchmarks/storm.py`` runs each boot with each server, 40 to 3,000 machines at the same second, with loss and
without, by ``bootfw storm`` in network namespaces of its own. It needs root, iproute2, nftables and Debian's
dnsmasq-base; nginx and tftpd-hpa are unpacked and not installed.

Every result is written to the file of ``--json`` as soon as it is there, and a run that is there already is not
repeated: what was interrupted continues where it was. At the end the script writes the table of docs/storms.md from all
results, and ``--plot FILE`` draws them (the extra ``benchmarks``). ``--report`` does only that, and needs no root.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from picture import Panel, Point, draw_panels
from servers import HERE, program

MACHINES = (40, 100, 300, 1000, 3000)
LOSS = (0.0, 0.02)
ADDRESS = "10.77.0.1"
NETWORK = "10.77.0.0"
POOL = "10.77.1.0", "10.77.60.255"
RESULTS = HERE / "storm.json"
PAGE = HERE.parent / "docs" / "storms.md"
BEGIN, END = "<!-- results of benchmarks/storm.py -->\n", "<!-- end of results -->\n"

FILES = {
    "pxeboot.emu": 60_000,
    "boot/loader.rc": 1_000,
    "boot/loader.4th": 12_000,
    "boot/support.4th": 40_000,
    "boot/defaults/loader.conf": 13_000,
    "boot/device.hints": 3_000,
    "boot/kernel/kernel": 600_000,
    "boot/mfsroot.gz": 300_000,
    "boot.ipxe": 500,
    "vmlinuz": 2_000_000,
    "initrd.img": 4_000_000,
}
"""Bytes of each file: about 1 MB for Emulab's boot, 6 MB for the modern one."""

_Command = Callable[[Path, str], Sequence[object]]
"""(directory of files and configuration, boot file) -> the server's command."""


def bootfw(work: Path, file: str) -> Sequence[object]:
    """This checkout, in the environment that runs the benchmark."""
    return _bootfw(work, f'[dhcp]\nmode = "server"\n{_subnet()}[[resolver]]\nuse = "static"\nfile = "{file}"\n')


def bootfw_proxy(work: Path, file: str) -> Sequence[object]:
    """The same beside a DHCP server, with a PXE menu of one item as dnsmasq has it."""
    item = f'[[resolver.items]]\ndescription = "Boot"\nfile = "{file}"\n'
    return _bootfw(work, f'[dhcp]\nmode = "proxy"\n[[resolver]]\nuse = "pxe-menu"\ntimeout-seconds = 0\n{item}')


def _bootfw(work: Path, more_settings: str) -> Sequence[object]:
    (work / "bootfw.toml").write_text(
        f'[bootfw]\nstate-dir = "{work}/state"\n[tftp]\nlisten = ["0.0.0.0:69"]\n[http]\nlisten = ["0.0.0.0:80"]\n'
        f'{more_settings}[[backend]]\nuse = "directory"\nroot = "{work}/files"\n'
    )
    return [sys.executable, "-m", "bootfw.cli.main", "run", "-c", work / "bootfw.toml"]


def dnsmasq(work: Path, file: str, tftp: bool = True) -> Sequence[object]:
    """Debian's dnsmasq-base, as DHCP and TFTP server."""
    boot = f"dhcp-boot={file}\n" if file else ""
    return _dnsmasq(
        work,
        f"dhcp-range={POOL[0]},{POOL[1]},255.255.0.0\ndhcp-lease-max=10000\ndhcp-leasefile={work}/leases\n"
        f"no-ping\n{boot}{_tftp(work) if tftp else ''}",
    )


def dnsmasq_proxy(work: Path, file: str) -> Sequence[object]:
    """The same beside a DHCP server."""
    return _dnsmasq(work, f"dhcp-range={NETWORK},proxy,255.255.0.0\npxe-service=x86PC,Boot,{file}\n{_tftp(work)}")


def _tftp(work: Path) -> str:
    return f"enable-tftp\ntftp-root={work}/files\ntftp-max=5000\n"


def _dnsmasq(work: Path, more_settings: str) -> Sequence[object]:
    path = work / "dnsmasq.conf"
    path.write_text(
        f"port=0\ninterface=eth0\nbind-interfaces\nuser=root\npid-file=\nlog-facility=-\nquiet-dhcp\nquiet-tftp\n{more_settings}"
    )
    return [program("dnsmasq"), "--keep-in-foreground", f"--conf-file={path}"]


def addresses(work: Path, file: str) -> Sequence[object]:
    """The DHCP server beside each proxy: bootfw, without boot files.

    With Kea there, half of 1,000 machines needed three rounds of DISCOVER until they had both offers, and with bootfw
    one round (both on a busy machine); why was not measured. dnsmasq has not been tried.
    """
    directory = work / "addresses"
    directory.mkdir()
    (directory / "bootfw.toml").write_text(
        f'[bootfw]\nworkers = 1\nstate-dir = "{directory}/state"\n[tftp]\nlisten = []\n[http]\nlisten = []\n'
        f'[dhcp]\nmode = "server"\n{_subnet()}'
        '[[resolver]]\nuse = "by-client"\n[[resolver.clients]]\nmac = "02:00:00:00:00:01"\nfile = "none"\n'
    )
    return [sys.executable, "-m", "bootfw.cli.main", "run", "-c", directory / "bootfw.toml"]


def _subnet() -> str:
    return f'[[dhcp.subnet]]\nnetwork = "{NETWORK}/16"\npool = ["{POOL[0]}-{POOL[1]}"]\n'


def tftpd_hpa(work: Path, file: str) -> Sequence[object]:
    """Debian's tftpd-hpa, and dnsmasq for DHCP."""
    server = program("in.tftpd", HERE / "build" / "run")
    return _two_commands(
        dnsmasq(work, file, tftp=False),
        ["env", libraries(server), server, "--foreground", "--secure", "--user", "root", work / "files"],
    )


def nginx(work: Path, file: str) -> Sequence[object]:
    """Debian's nginx, and dnsmasq for DHCP."""
    server = program("nginx", HERE / "build" / "run")
    temporary = "".join(f"{kind}_temp_path {work};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (work / "nginx.conf").write_text(
        f"daemon off; worker_processes 2; user root; pid {work}/nginx.pid; error_log {work}/nginx.err;\n"
        "events { worker_connections 8192; }\n"
        f"http {{ access_log {work}/access.log; sendfile on; {temporary}\n"
        f"server {{ listen 80 backlog=4096; root {work}/files; }} }}\n"
    )
    return _two_commands(dnsmasq(work, file, tftp=False), ["env", libraries(server), server, "-c", work / "nginx.conf"])


def _two_commands(first: Sequence[object], second: Sequence[object]) -> Sequence[object]:
    def line(command: Sequence[object]) -> str:
        return shlex.join(map(str, command))

    return ["sh", "-c", f"{line(first)} & exec {line(second)}"]


def libraries(server: Path) -> str:
    """Where a program that was unpacked finds its libraries."""
    if "debian" not in server.parts:
        return "LC_ALL=C"
    machine, unpacked = f"{os.uname().machine}-linux-gnu", server.parents[2]
    return f"LD_LIBRARY_PATH={unpacked}/usr/lib/{machine}:{unpacked}/lib/{machine}"


@frozen
class Storm:
    """One boot, and the servers that are compared."""

    name: str
    boot: str
    """As ``bootfw storm --list`` names it."""
    about: str
    file: str
    servers: Mapping[str, tuple[_Command, ...]]
    """Each server, with one command for each host: 10.77.0.1, 10.77.0.2."""


STORMS = (
    Storm(
        "emulab",
        "emulab",
        "Emulab: DHCP, pxeboot and FreeBSD's loader by TFTP, 1 MB",
        "pxeboot.emu",
        {"bootfw": (bootfw,), "dnsmasq": (dnsmasq,), "tftpd-hpa": (tftpd_hpa,)},
    ),
    Storm(
        "emulab-proxy",
        "emulab",
        "Emulab by a proxy beside a DHCP server: port 4011, 1 MB by TFTP",
        "pxeboot.emu",
        {"bootfw": (bootfw_proxy, addresses), "dnsmasq": (dnsmasq_proxy, addresses)},
    ),
    Storm(
        "ipxe-http",
        "ipxe-http",
        "Modern: DHCP, iPXE, kernel and initrd by HTTP, 6 MB",
        f"http://{ADDRESS}/boot.ipxe",
        {"bootfw": (bootfw,), "nginx": (nginx,)},
    ),
)

SERVERS = ("bootfw", "dnsmasq", "tftpd-hpa", "nginx")


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--machines", type=int, nargs="+", default=list(MACHINES))
    options.add_argument("--loss", type=float, nargs="+", default=list(LOSS))
    options.add_argument("--boots", nargs="+", choices=[storm.name for storm in STORMS])
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    options.add_argument("--minutes", type=float, default=60.0, help="begin no run after so long")
    options.add_argument("--again", action="store_true", help="repeat what is in the results already")
    options.add_argument("--report", action="store_true", help="run nothing: print, write and draw what there is")
    options.add_argument("--json", type=Path, default=RESULTS, help="the results")
    options.add_argument(
        "--page",
        type=Path,
        help="write the table of all results here; default: docs/storms.md for the default of --json",
    )
    options.add_argument("--plot", type=Path, help="draw all results here: .svg, .png or .pdf (needs matplotlib)")
    arguments = options.parse_args()
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    if not arguments.report:
        if os.geteuid():
            sys.stderr.write("storm.py: network namespaces need root\n")
            return 2
        run_all(arguments, results)
    show(results)
    page = arguments.page or (PAGE if arguments.json == RESULTS else None)
    if page is not None:
        write_table(results, page)
    if arguments.plot:
        draw(results, arguments.plot)
    return 0


def run_all(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Run what is missing in *results*, and add it."""
    runs = [
        (storm, loss, machines, server)
        for machines in arguments.machines
        for storm in STORMS
        for loss in arguments.loss
        for server in storm.servers
        if (arguments.boots is None or storm.name in arguments.boots) and server in arguments.servers
    ]
    began = time.monotonic()
    for number, (storm, loss, machines, server) in enumerate(runs):
        name = f"{storm.name}, {machines} machines, {loss:.0%} lost, {server}"
        if name in results and not arguments.again:
            continue
        if time.monotonic() - began > 60 * arguments.minutes:
            sys.stderr.write(f"storm.py: the time is over, {len(runs) - number} runs are left\n")
            break
        sys.stderr.write(f"{number + 1} of {len(runs)}: {name} ... ")
        sys.stderr.flush()
        figures = run(storm, loss, machines, server)
        results[name] = {"boot": storm.name, "machines": machines, "loss": loss, "server": server, **figures}
        sys.stderr.write(f"{figures['booted']} booted, the last after {figures['seconds']:.1f} s\n")
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def run(storm: Storm, loss: float, machines: int, server: str) -> dict[str, Any]:
    """One storm; its figures."""
    with tempfile.TemporaryDirectory(prefix="bootfw-storm-") as scratch:
        work = Path(scratch)
        os.chmod(scratch, 0o755)
        for name, size in FILES.items():
            path = work / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
        command_line = [sys.executable, "-m", "bootfw.cli.main", "storm", "--json", "--boot", storm.boot]
        for command in storm.servers[server]:
            command_line += ["--lab", shlex.join(map(str, command(work, storm.file)))]
        command_line += ["--machines", str(machines), "--loss", str(loss), "--seconds", "300"]
        result = subprocess.run(command_line, capture_output=True, text=True, check=False, cwd=work)
        if not result.stdout:
            raise SystemExit(f"storm.py: {server}: {result.stderr}")
        document: dict[str, Any] = json.loads(result.stdout)
    del document["outcomes"]
    return document


def show(results: Mapping[str, Any]) -> None:
    """The results as a table."""
    row = "{:12} {:>8} {:>5} {:10} {:>7} {:>7} {:>7} {:>8} {:>14} {:>5} {:>9}\n"
    header = (
        "boot",
        "machines",
        "lost",
        "server",
        "booted",
        "50 % s",
        "99 % s",
        "last s",
        "retries",
        "4011",
        "simulator",
    )
    sys.stdout.write(row.format(*header))
    for each in ordered(results):
        median, _, most = each["boot_percentiles"]
        retries = {
            is_dhcp: sum(s["retries"] for s in each["stages"] if s["stage"].endswith(": dhcp") == is_dhcp)
            for is_dhcp in (True, False)
        }
        sys.stdout.write(
            row.format(
                *(each["boot"], each["machines"], f"{each['loss']:.0%}", each["server"], each["booted"]),
                *(f"{median:.1f}", f"{most:.1f}", f"{each['seconds']:.1f}"),
                f"{retries[True]} + {retries[False]}",
                *_most_retries_of_4011(each),
                "limit" if each["limited"] else "",
            )
        )
    sys.stdout.write(
        "retries: of DHCP + of all else; 4011: of one machine's request to that port, at most; "
        "simulator: where it says limit, the server might have been faster\n"
    )


def _most_retries_of_4011(result: Mapping[str, Any]) -> tuple[str]:
    """How often a machine has repeated its request to port 4011 at most; "": there was none."""
    most = [stage["most_retries"] for stage in result["stages"] if stage["stage"].endswith(": port 4011")]
    return (str(max(most)) if most else "",)


def write_table(results: Mapping[str, Any], page: Path) -> None:
    """Replace the table in *page*, between the lines BEGIN and END, by one of all results."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{markdown(results)}{END}{after}")


def markdown(results: Mapping[str, Any]) -> str:
    """A table with a line for each storm, and a column for each server."""
    lines = [f"| Boot, lost | Machines | {' | '.join(SERVERS)} |", f"| --- | ---: |{' ---: |' * len(SERVERS)}"]
    for storm in STORMS:
        for loss in LOSS:
            for machines in MACHINES:
                cells = [
                    next(
                        (
                            _cell(each)
                            for each in _results_of(results, storm, loss, server)
                            if each["machines"] == machines
                        ),
                        "",
                    )
                    for server in SERVERS
                ]
                if any(cells):
                    lines.append(
                        f"| {storm.name}, {loss:.0%} | {machines:,} | {' | '.join(cells)} |".replace("%", " %")
                    )
    return "".join(f"{line}\n" for line in lines)


def _cell(result: Mapping[str, Any]) -> str:
    text = f"{result['longest']:.1f} s"
    if result["booted"] != result["machines"]:
        text += f", {result['booted']:,} booted"
    return f"{text} †" if result["limited"] else text


def _results_of(results: Mapping[str, Any], storm: Storm, loss: float, server: str) -> list[Mapping[str, Any]]:
    return [
        each for each in ordered(results) if (each["boot"], each["loss"], each["server"]) == (storm.name, loss, server)
    ]


def ordered(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All results, those to be compared next to each other."""
    return sorted(results.values(), key=lambda each: (each["boot"], each["loss"], each["machines"], each["server"]))


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the time until the last machine has booted against their number.

    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    panels = [
        [
            Panel(
                f"{storm.about}\n{100 * loss:g} % of all packets lost",
                {
                    server: [_point(each) for each in _results_of(results, storm, loss, server)]
                    for server in storm.servers
                },
                "machines switched on at the same second",
                "seconds until the last one has booted",
                logarithmic=True,
            )
            for loss in LOSS
        ]
        for storm in STORMS
    ]
    draw_panels(panels, path, "How long until every machine has booted (cross: not all have)", x_ticks=MACHINES)


def _point(result: Mapping[str, Any]) -> Point:
    booted, machines = result["booted"], result["machines"]
    return Point(machines, result["longest"], "" if booted == machines else f"{booted:,} of {machines:,}")


if __name__ == "__main__":
    raise SystemExit(main())
