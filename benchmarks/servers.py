"""The servers that are compared: each on its own loopback port, serving the same directory, its CPU time known."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a server; kill it if it does not end within 10 s."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Account:
    """The kernel's account of a process and its children, including children that have ended and were not waited for.

    It needs root and a control group, of either version; without, there is none.
    """

    def __init__(self, pid: int) -> None:
        self._group: Path | None = None
        for parent, self._usage in (("cpuacct", "cpuacct.usage"), ("unified", "cpu.stat"), (".", "cpu.stat")):
            group = Path("/sys/fs/cgroup") / parent / f"bootfw-benchmark-{pid}"
            try:
                group.mkdir()
                (group / "cgroup.procs").write_text(f"{pid}\n")
                (group / self._usage).read_text()
            except OSError:
                continue
            self._group = group
            return

    def seconds(self) -> float | None:
        """CPU time so far."""
        if self._group is None:
            return None
        text = (self._group / self._usage).read_text()
        return int(text) / 1e9 if self._usage == "cpuacct.usage" else int(text.split()[1]) / 1e6

    def close(self) -> None:
        """Give the group back; not before its last process has ended."""
        for _ in range(100):
            try:
                if self._group is not None:
                    self._group.rmdir()
            except OSError:
                time.sleep(0.02)
            else:
                return


class Server:
    """A running server; ``with`` ends it."""

    def __init__(self, name: str, command: Sequence[object], port: int, log: Path, *, tcp: bool = False) -> None:
        self.name = name
        self.port = port
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=output,
                env=_environment(Path(str(command[0]))),
            )
        self._account = _Account(self._process.pid)
        began = time.monotonic()
        deadline = began + 60  # of a busy machine
        while not _is_bound(port, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{name} does not listen on {port}:\n{log.read_text(errors='replace')}")
            time.sleep(0.005)
        self.bound_after = time.monotonic() - began
        """Seconds from the start of its program on."""

    def processes(self) -> list[int]:
        """The process ids of the server and of everything it has started."""
        return _with_children(self._process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the server and of everything it has started."""
        account_seconds = self._account.seconds()
        if account_seconds is not None:
            return account_seconds
        total = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
        return total / TICKS

    def resident_bytes(self) -> int:
        """Resident memory of the server's own process."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        terminate(self._process)
        self._account.close()


def bootfw(root: Path, work: Path, workers: int = 1, ports: str = "single", port: int = 20169) -> Server:
    """This checkout, in the environment that runs the benchmark.

    :param workers: processes; 0: as many as it chooses.
    :param ports: as in ``[tftp]``.
    """
    configuration = work / "bootfw.toml"
    configuration.write_text(
        f'[bootfw]\nworkers = {workers}\n[tftp]\nlisten = ["127.0.0.1:{port}"]\nports = "{ports}"\n'
        f'[dhcp]\nmode = "off"\n'
        f'[http]\nlisten = []\n[[backend]]\nuse = "directory"\nroot = "{root}"\n'
    )
    twistd = Path(sys.executable).with_name("twistd")
    command = [twistd, "--nodaemon", "--pidfile=", "bootfw", "-c", configuration]
    return Server("bootfw", command, port, work / "bootfw.log")


def dnsmasq(root: Path, work: Path) -> Server:
    """Debian's dnsmasq-base. It has one TFTP port, 69, and needs root for it."""
    command = [
        program("dnsmasq"),
        *("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--enable-tftp", f"--tftp-root={root}", "--tftp-max=5000", "--quiet-tftp", "--log-facility=-"),
        *("--listen-address=127.0.0.1", "--bind-interfaces"),
    ]
    return Server("dnsmasq", command, 69, work / "dnsmasq.log")


def tftpd_hpa(root: Path, work: Path) -> Server:
    """Debian's tftpd-hpa."""
    port = 20269
    command = [
        program("in.tftpd", work),
        *("--foreground", "--secure", "--user", "root", "--address", f"127.0.0.1:{port}", root),
    ]
    return Server("tftpd-hpa", command, port, work / "tftpd-hpa.log")


def atftpd(root: Path, work: Path) -> Server:
    """Debian's atftpd."""
    port = 20369
    command = [
        program("atftpd", work),
        *("--daemon", "--no-fork", "--bind-address", "127.0.0.1", "--port", str(port), "--user", "root.root"),
        *("--maxthread", "5000", "--verbose=0", "--logfile", "/dev/stdout", root),
    ]
    return Server("atftpd", command, port, work / "atftpd.log")


def limit(root: Path, work: Path) -> Server:
    """limit.c: what the kernel lets anybody do."""
    port = 20469
    subprocess.run(["cc", "-O2", "-o", work.parent / "limit", HERE / "limit.c"], check=True)
    return Server("limit", [work.parent / "limit", str(port), root], port, work / "limit.log")


SERVERS: dict[str, Callable[[Path, Path], Server]] = {
    "bootfw": bootfw,
    "bootfw, 2 workers": partial(bootfw, workers=2, port=20170),
    "dnsmasq": dnsmasq,
    "tftpd-hpa": tftpd_hpa,
    "atftpd": atftpd,
    "limit": limit,
}

# Debian's packages of these two exclude each other, so they are unpacked instead of installed.
PACKAGES = {
    "in.tftpd": ("tftpd-hpa", "libwrap0"),
    "atftpd": ("atftpd", "libwrap0"),
    "dnsmasq": ("dnsmasq-base",),
    "nginx": ("nginx",),
}


def program(name: str, work: Path | None = None) -> Path:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path:
        return Path(path)
    if work is None:
        raise RuntimeError(f"{name} is not installed (Debian: {PACKAGES[name][0]})")
    unpacked = work.parent / "debian" / name
    if not unpacked.exists():
        unpacked.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o777)  # apt downloads as a user of its own
            subprocess.run(["apt-get", "download", "-qq", *PACKAGES[name]], cwd=scratch, check=True)
            for package in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, unpacked], check=True)
    return unpacked / "usr/sbin" / name


def _environment(program: Path) -> dict[str, str]:
    """Where an unpacked program finds its libraries."""
    if "debian" not in program.parts:
        return dict(os.environ)
    machine = f"{os.uname().machine}-linux-gnu"
    unpacked = program.parents[2]
    return {**os.environ, "LD_LIBRARY_PATH": f"{unpacked}/usr/lib/{machine}:{unpacked}/lib/{machine}"}


def _is_bound(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _with_children(pid: int) -> list[int]:
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            pids += _with_children(int(child))
    return pids
