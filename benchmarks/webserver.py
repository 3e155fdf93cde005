"""bootfw beside nginx as HTTP servers, in turn in one run: rate, and the server's CPU time.

``python benchmarks/webserver.py`` needs curl, which is the load, and Debian's nginx, which is unpacked and not
installed; for HTTPS also openssl and the extra ``tls``.
nginx has one worker and sends by sendfile. curl throws away what it gets. The file is in the page cache.

Read from the servers' CPU seconds, not from the rates: on two cores curl, which copies what it gets, is the limit.
``--json FILE`` keeps every single figure.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen
from servers import HERE, Server, program

GB = 10**9


@frozen
class Work:
    """What is fetched."""

    size: int
    clients: int = 1
    """Programs at once."""
    files: int = 1
    """That each of them fetches, on one connection."""
    tls: bool = False
    limit: str = ""
    """curl's --limit-rate, for clients that are slow."""


WORK = {
    "1 x 1 GB": Work(GB),
    "8 x 1 GB": Work(GB, clients=8),
    "100 x 20 MB, slow": Work(20_000_000, clients=100, limit="5M"),
    "30 kB, 5000 on a connection": Work(30_000, files=5000),
    "1 x 1 GB by HTTPS": Work(GB, tls=True),
}


def bootfw(root: Path, work: Path, tls: bool) -> Server:
    """This checkout, in the environment that runs the benchmark."""
    port, configuration = 20180, work / "bootfw-http.toml"
    listen = (
        f'https-listen = ["127.0.0.1:{port}"]\ncertificate = "both.pem"' if tls else f'listen = ["127.0.0.1:{port}"]'
    )
    configuration.write_text(
        f'[bootfw]\nworkers = 1\n[tftp]\nlisten = []\n[dhcp]\nmode = "off"\n[http]\n{listen}\n'
        f'[[backend]]\nuse = "directory"\nroot = "{root}"\n'
    )
    twistd = Path(sys.executable).with_name("twistd")
    command = [twistd, "--nodaemon", "--pidfile=", "bootfw", "-c", configuration]
    return Server("bootfw", command, port, work / "bootfw-http.log", tcp=True)


def nginx(root: Path, work: Path, tls: bool) -> Server:
    """Debian's nginx."""
    port, configuration = 20280, work / "nginx.conf"
    secure = f"ssl_certificate {work}/both.pem; ssl_certificate_key {work}/both.pem;" if tls else ""
    configuration.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.err;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; keepalive_requests 1000000;\n"
        + "".join(f"{kind}_temp_path {work};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; {secure} root {root}; }} }}\n"
    )
    return Server("nginx", [program("nginx", work), "-c", configuration], port, work / "nginx.log", tcp=True)


SERVERS: dict[str, Callable[[Path, Path, bool], Server]] = {"bootfw": bootfw, "nginx": nginx}


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", action="append", choices=WORK, help="this work, not all; can be repeated")
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    options.add_argument("--json", type=Path, help="keep every figure here")
    arguments = options.parse_args()
    if missing := missing_programs([WORK[name] for name in arguments.only or WORK], arguments.servers):
        sys.stderr.write("".join(f"webserver.py: {line}\n" for line in missing))
        return 2
    work = HERE / "build" / "run"
    work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, list[Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="bootfw-bench-") as scratch:
        os.chmod(scratch, 0o755)
        for name in arguments.only or WORK:
            figures[name] = measure(name, arguments, Path(scratch), work)
            show(name, figures[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    return 0


def missing_programs(works: Sequence[Work], servers: Sequence[str]) -> list[str]:
    """What is not installed here, and how to get it or to do without."""
    without_tls = " ".join(f'--only "{name}"' for name, work in WORK.items() if not work.tls)
    missing = [] if shutil.which("curl") else ["curl is the load, and is not installed: apt-get install curl"]
    if any(work.tls for work in works):
        if not shutil.which("openssl"):
            missing.append(f"HTTPS needs openssl: apt-get install openssl, or leave HTTPS out: {without_tls}")
        if "bootfw" in servers and not find_spec("OpenSSL"):
            missing.append(f"HTTPS needs pyOpenSSL: pip install 'bootfw[tls]', or leave HTTPS out: {without_tls}")
    return missing


def measure(name: str, arguments: argparse.Namespace, root: Path, work: Path) -> dict[str, list[Any]]:
    """Every round's figures of one kind of work, by server."""
    kind = WORK[name]
    content = root / f"{kind.size}.bin"
    if not content.exists():
        with content.open("wb") as file:
            for remaining in range(kind.size, 0, -1_000_000):
                file.write(os.urandom(min(remaining, 1_000_000)))
    if kind.tls:
        certify(work / "both.pem")
    figures: dict[str, list[Any]] = {server: [] for server in arguments.servers}
    for number in range(arguments.rounds):
        for server in arguments.servers:
            sys.stderr.write(f"\r{name}: round {number + 1} of {arguments.rounds}, {server}   ")
            with SERVERS[server](root, work, kind.tls) as server_process:
                figures[server].append(fetch(kind, content.name, server_process, work))
    sys.stderr.write("\r" + " " * 70 + "\r")
    return figures


def fetch(kind: Work, name: str, server: Server, work: Path) -> dict[str, float]:
    """One figure."""
    scheme = "https" if kind.tls else "http"
    url = f"{scheme}://127.0.0.1:{server.port}/{name}"
    curl_config = work / "curl.config"
    curl_config.write_text(f'url = "{url}"\noutput = "/dev/null"\n' * kind.files)
    command = ["curl", "--silent", "--fail", "--insecure", "--noproxy", "*", "--config", str(curl_config)]
    if kind.limit:
        command += ["--limit-rate", kind.limit]
    cpu_before, times_before, began = server.cpu_seconds(), os.times(), time.monotonic()
    clients = [subprocess.Popen(command) for _ in range(kind.clients)]
    failed = sum(client.wait() != 0 for client in clients)
    seconds, times_after = time.monotonic() - began, os.times()
    return {
        "bytes": kind.size * kind.files * (kind.clients - failed),
        "files": kind.files * (kind.clients - failed),
        "failed": failed,
        "seconds": seconds,
        "server_cpu": server.cpu_seconds() - cpu_before,
        "load_cpu": times_after.children_user
        + times_after.children_system
        - times_before.children_user
        - times_before.children_system,
        "resident": server.resident_bytes(),
    }


def show(name: str, figures: dict[str, list[Any]]) -> None:
    """The medians, as a table."""
    sys.stdout.write(f"\n{name}\n")
    row = "  {:8} {:>9} {:>9} {:>9} {:>13} {:>9} {:>12} {:>7}\n"
    sys.stdout.write(row.format("", "MB/s", "files/s", "CPU s/GB", "CPU us/file", "load CPU", "resident MB", "failed"))
    for server, rounds in figures.items():

        def median(value: Callable[[Any], float], rounds: list[Any] = rounds) -> float:
            return statistics.median(map(value, rounds))

        columns = (
            f"{median(lambda f: f['bytes'] / 1e6 / f['seconds']):.0f}",
            f"{median(lambda f: f['files'] / f['seconds']):.0f}",
            f"{median(lambda f: f['server_cpu'] * 1e9 / (f['bytes'] or 1)):.3f}",
            f"{median(lambda f: f['server_cpu'] * 1e6 / (f['files'] or 1)):.0f}",
            f"{median(lambda f: f['load_cpu'] / f['seconds']):.0%}",
            f"{median(lambda f: f['resident'] / 1e6):.0f}",
        )
        sys.stdout.write(row.format(server, *columns, sum(f["failed"] for f in rounds)))
    sys.stdout.flush()


def certify(path: Path) -> None:
    """Write a certificate without names, with its key."""
    options = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=benchmark", "-batch")
    command = ["openssl", *options, "-keyout", path.with_suffix(".key"), "-out", path.with_suffix(".crt")]
    subprocess.run([str(argument) for argument in command], check=True, capture_output=True)
    path.write_bytes(path.with_suffix(".crt").read_bytes() + path.with_suffix(".key").read_bytes())


if __name__ == "__main__":
    raise SystemExit(main())
