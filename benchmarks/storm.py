"""Whole boots in numbers, bootfw beside dnsmasq, tftpd-hpa and nginx: how long until every machine has booted.

``python benchmarks/storm.py`` runs each boot with each server, 40 to 3,000 machines at the same second, with loss and
without, by ``bootfw storm`` in network namespaces of its own. It needs root, iproute2, nftables and Debian's
dnsmasq-base; nginx and tftpd-hpa are unpacked and not installed.

Every result is written to the file of ``--json`` as soon as it is there, and a run that is there already is not
repeated: what was interrupted goes on where it was. ``--plot FILE`` draws all of them (the extra ``benchmarks``).
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
from servers import HERE, program

MACHINES = (40, 100, 300, 1000, 3000)
LOSS = (0.0, 0.02)
ADDRESS = "10.77.0.1"
POOL = "10.77.1.0", "10.77.60.255"
RESULTS = HERE / "storm.json"

FILES = {
    "loader": 60_000,
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


def bootfw(work: Path, file: str, more: str = "", mode: str = "server") -> Sequence[object]:
    """This checkout, in the environment that runs the benchmark."""
    subnet = f'[[dhcp.subnet]]\nnetwork = "10.77.0.0/16"\npool = ["{POOL[0]}-{POOL[1]}"]\n' if mode == "server" else ""
    (work / "bootfw.toml").write_text(
        f'[bootfw]\nstate-dir = "{work}/state"\n[tftp]\nlisten = ["0.0.0.0:69"]\n[http]\nlisten = ["0.0.0.0:80"]\n'
        f'[dhcp]\nmode = "{mode}"\n{more}{subnet}'
        f'[[backend]]\nuse = "directory"\nroot = "{work}/files"\n[[resolver]]\nuse = "static"\nfile = "{file}"\n'
    )
    return [sys.executable, "-m", "bootfw.cli.main", "run", "-c", work / "bootfw.toml"]


def dnsmasq(work: Path, file: str, more: str = "enable-tftp") -> Sequence[object]:
    """Debian's dnsmasq-base."""
    (work / "dnsmasq.conf").write_text(
        f"port=0\nno-ping\ninterface=eth0\nbind-interfaces\nuser=root\npid-file=\nlog-facility=-\nquiet-dhcp\nquiet-tftp\n"
        f"dhcp-range={POOL[0]},{POOL[1]},255.255.0.0\ndhcp-lease-max=10000\ndhcp-leasefile={work}/leases\n"
        f"tftp-root={work}/files\ntftp-max=5000\n{f'dhcp-boot={file}' if file else ''}\n{more}\n"
    )
    return [program("dnsmasq"), "--keep-in-foreground", f"--conf-file={work}/dnsmasq.conf"]


def tftpd_hpa(work: Path, file: str) -> Sequence[object]:
    """Debian's tftpd-hpa, and dnsmasq for DHCP."""
    server = program("in.tftpd", HERE / "build" / "run")
    return _both(
        dnsmasq(work, file, more=""),
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
    return _both(dnsmasq(work, file), ["env", libraries(server), server, "-c", work / "nginx.conf"])


def _both(first: Sequence[object], second: Sequence[object]) -> Sequence[object]:
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
    """One boot, and who serves it."""

    boot: str
    """As ``bootfw storm --list`` names it."""
    about: str
    file: str
    servers: Mapping[str, _Command]


STORMS = (
    Storm(
        "emulab",
        "Emulab: DHCP, pxeboot and FreeBSD's loader by TFTP, 1 MB",
        "loader",
        {"bootfw": bootfw, "dnsmasq": dnsmasq, "tftpd-hpa": tftpd_hpa},
    ),
    Storm(
        "ipxe-http",
        "modern: DHCP, iPXE, kernel and initrd by HTTP, 6 MB",
        f"http://{ADDRESS}/boot.ipxe",
        {"bootfw": bootfw, "nginx": nginx},
    ),
)

_COLOURS = {"bootfw": "#1f77b4", "dnsmasq": "#8c8c8c", "tftpd-hpa": "#c9b28f", "nginx": "#4c9a52"}


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--machines", type=int, nargs="+", default=list(MACHINES))
    options.add_argument("--loss", type=float, nargs="+", default=list(LOSS))
    options.add_argument("--boots", nargs="+", choices=[storm.boot for storm in STORMS])
    options.add_argument("--servers", nargs="+", choices=list(_COLOURS), default=list(_COLOURS))
    options.add_argument("--minutes", type=float, default=60.0, help="begin no run after so long")
    options.add_argument("--again", action="store_true", help="repeat what is in the results already")
    options.add_argument("--json", type=Path, default=RESULTS, help="the results")
    options.add_argument("--plot", type=Path, help="draw all results here: .svg, .png or .pdf (needs matplotlib)")
    asked = options.parse_args()
    if os.geteuid():
        sys.stderr.write("storm.py: network namespaces need root\n")
        return 2
    results = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    wanted = [
        (storm, loss, machines, server)
        for machines in asked.machines
        for storm in STORMS
        for loss in asked.loss
        for server in storm.servers
        if (asked.boots is None or storm.boot in asked.boots) and server in asked.servers
    ]
    began = time.monotonic()
    for number, (storm, loss, machines, server) in enumerate(wanted):
        name = f"{storm.boot}, {machines} machines, {loss:.0%} lost, {server}"
        if name in results and not asked.again:
            continue
        if time.monotonic() - began > 60 * asked.minutes:
            sys.stderr.write(f"storm.py: the time is over, {len(wanted) - number} runs are left\n")
            break
        sys.stderr.write(f"{number + 1} of {len(wanted)}: {name} ... ")
        sys.stderr.flush()
        found = run(storm, loss, machines, server)
        results[name] = {"boot": storm.boot, "machines": machines, "loss": loss, "server": server, **found}
        sys.stderr.write(f"{found['booted']} booted, the last after {found['seconds']:.1f} s\n")
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    if asked.plot:
        draw(results, asked.plot)
    return 0


def run(storm: Storm, loss: float, machines: int, server: str) -> dict[str, Any]:
    """One storm; its figures."""
    with tempfile.TemporaryDirectory(prefix="bootfw-storm-") as scratch:
        work = Path(scratch)
        os.chmod(scratch, 0o755)
        for name, size in FILES.items():
            path = work / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
        command = shlex.join(map(str, storm.servers[server](work, storm.file)))
        storming = [sys.executable, "-m", "bootfw.cli.main", "storm", "--json", "--boot", storm.boot, "--lab", command]
        storming += ["--machines", str(machines), "--loss", str(loss), "--seconds", "300"]
        done = subprocess.run(storming, capture_output=True, text=True, check=False, cwd=work)
        if not done.stdout:
            raise SystemExit(f"storm.py: {server}: {done.stderr}")
        document: dict[str, Any] = json.loads(done.stdout)
    del document["outcomes"]
    return document


def show(results: Mapping[str, Any]) -> None:
    """The results as a table."""
    row = "{:10} {:>8} {:>5} {:10} {:>7} {:>7} {:>7} {:>8} {:>14} {:>9}\n"
    head = ("boot", "machines", "lost", "server", "booted", "50 % s", "99 % s", "last s", "retries", "simulator")
    sys.stdout.write(row.format(*head))
    for each in ordered(results):
        half, _, most = each["boot_percentiles"]
        retries = {
            what: sum(s["retries"] for s in each["stages"] if s["stage"].endswith(": dhcp") == what)
            for what in (True, False)
        }
        sys.stdout.write(
            row.format(
                *(each["boot"], each["machines"], f"{each['loss']:.0%}", each["server"], each["booted"]),
                *(f"{half:.1f}", f"{most:.1f}", f"{each['seconds']:.1f}"),
                f"{retries[True]} + {retries[False]}",
                "limit" if each["limited"] else "",
            )
        )
    sys.stdout.write("retries: of DHCP + of files; simulator: where it says limit, the server might have been faster\n")


def ordered(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All results, those to be compared next to each other."""
    return sorted(results.values(), key=lambda each: (each["boot"], each["loss"], each["machines"], each["server"]))


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the time until the last machine has booted against their number.

    :raise ImportError: matplotlib is not installed: the extra ``benchmarks``.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 8), layout="constrained")
    panels = picture.subplots(len(STORMS), len(LOSS), sharex=True, sharey="row", squeeze=False)
    for storm, row in zip(STORMS, panels, strict=True):
        for loss, axes in zip(LOSS, row, strict=True):
            for server in storm.servers:
                found = [
                    each
                    for each in ordered(results)
                    if (each["boot"], each["loss"], each["server"]) == (storm.boot, loss, server)
                ]
                machines, colour = [each["machines"] for each in found], _COLOURS[server]
                lasts = [each["seconds"] for each in found]
                axes.plot(machines, lasts, color=colour, label=server)
                for each, last in zip(found, lasts, strict=True):
                    whole = each["booted"] == each["machines"]
                    axes.plot(each["machines"], last, "o", color=colour, mfc=colour if whole else "white")
                    if not whole:
                        axes.annotate(f"{each['booted']} booted", (each["machines"], last), fontsize="x-small")
                axes.plot(machines, [each["boot_percentiles"][0] for each in found], ":", color=colour)
            axes.set(xscale="log", yscale="log", title=f"{storm.about}; {loss:.0%} lost")
            axes.title.set_fontsize("small")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
    for axes in panels[-1]:
        axes.set(
            xlabel="machines switched on at the same second", xticks=MACHINES, xticklabels=[f"{n:,}" for n in MACHINES]
        )
        axes.minorticks_off()
    for row in panels:
        row[0].set_ylabel("seconds until the last has booted (dotted: half of them)")
    picture.savefig(path)


if __name__ == "__main__":
    raise SystemExit(main())
