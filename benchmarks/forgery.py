"""Forged DHCP requests to servers at the other end of a wire, and how many bytes come back for each byte of them."""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import frozen
from servers import terminate

ROOT = Path(__file__).resolve().parent.parent
NAME = f"forgery-{os.getpid()}"
SILENCE = 5.0
"""Seconds: none of these servers sends anything later, as DHCP leaves repeating to the client."""

SERVER, FORGER = "10.77.0.1", "10.77.0.2"
SERVER6, FORGER6 = "fd77::1", "fd77::2"
MAC = bytes.fromhex("525400123456")
LONG = "x" * 240
"""Options 224 to 227 of every DHCPv4 subnet."""
DOMAINS = [f"laboratory-{number:02}.department.example.org" for number in range(16)]
"""The search list by DHCPv6."""

_ETH_P_ALL = 3
_CLONE_NEWNET = 0x40000000
_FROM_SERVERS = (67, 4011, 547)


@frozen
class Case:
    """What the forger sends, and from where; ``bound`` is for bootfw, None: the reply stays on the link."""

    name: str
    data: bytes
    destination: tuple[str, int]
    source: tuple[str, int]
    bound: float | None = 3.0


def dhcp4(
    message_type: int | None, *options: tuple[int, bytes], giaddr: str = "0.0.0.0", ciaddr: str = "0.0.0.0"
) -> bytes:
    addresses = socket.inet_aton(ciaddr) + bytes(8) + socket.inet_aton(giaddr)
    header = struct.pack("!4BIHH", 1, 1, 6, 0, 0x12345678, 0, 0x8000) + addresses + MAC + bytes(10 + 192)
    if message_type is None:
        return header + bytes(64)
    packed = b"".join(bytes((code, len(value))) + value for code, value in ((53, bytes((message_type,))), *options))
    return header + b"\x63\x82\x53\x63" + packed + b"\xff"


def option6(code: int, value: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def dhcp6(message_type: int, *options: bytes) -> bytes:
    return bytes((message_type, 0x12, 0x34, 0x56)) + b"".join(options)


LARGE = (57, struct.pack("!H", 1500))
REQUEST_LIST = (55, bytes((1, 3, 6, 15, 224, 225, 226, 227)))
BOOTING = ((60, b"PXEClient"), (93, b"\0\0"))
CLIENT6 = option6(1, b"\0\3\0\1" + MAC)
ASSOCIATION = option6(3, struct.pack("!3I", 7, 0, 0))
REQUEST_LIST6 = option6(6, struct.pack("!2H", 23, 24))
SOLICIT = dhcp6(1, CLIENT6, ASSOCIATION, REQUEST_LIST6)
RELAYED = b"\x0c\0" + 2 * socket.inet_pton(socket.AF_INET6, FORGER6) + option6(9, SOLICIT)

WIRE, ROUTED = ("255.255.255.255", 67), (SERVER, 67)
GROUP = ("ff02::1:2", 547)
CASES = [
    Case("DISCOVER", dhcp4(1), WIRE, (FORGER, 68)),
    Case("DISCOVER with option 57 of 1500", dhcp4(1, LARGE, REQUEST_LIST), WIRE, (FORGER, 68)),
    Case("the same by a relay", dhcp4(1, LARGE, REQUEST_LIST, giaddr=FORGER), ROUTED, (FORGER, 67)),
    Case("the same of a PXE client", dhcp4(1, LARGE, REQUEST_LIST, *BOOTING, giaddr=FORGER), ROUTED, (FORGER, 67)),
    Case("INFORM with option 57 of 1500", dhcp4(8, LARGE, REQUEST_LIST, ciaddr=FORGER), ROUTED, (FORGER, 68)),
    Case("REQUEST of a PXE client, port 4011", dhcp4(3, LARGE, *BOOTING, ciaddr=FORGER), (SERVER, 4011), (FORGER, 68)),
    Case("BOOTP", dhcp4(None), WIRE, (FORGER, 68)),
    Case("INFORMATION-REQUEST, link-local", dhcp6(11), GROUP, ("", 546), None),
    Case("the same from another address", dhcp6(11), GROUP, (FORGER6, 546)),
    Case("SOLICIT, link-local", SOLICIT, GROUP, ("", 546), None),
    Case("the same from another address", SOLICIT, GROUP, (FORGER6, 546)),
    Case("the same by a relay", RELAYED, (SERVER6, 547), (FORGER6, 547)),
]


# The servers


def bootfw(work: Path, mode: str = "server") -> list[list[str]]:
    path = work / "bootfw.toml"
    long_options = "".join(f'{code} = {{text = "{LONG}"}}\n' for code in range(224, 228))
    subnets = (
        f'[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\npool = ["10.77.0.100-10.77.0.200"]\nrouter = "{SERVER}"\n'
        f'dns = ["{SERVER}"]\ndomain = "example.org"\n[dhcp.subnet.options]\n{long_options}'
        f'[[dhcp6.subnet]]\nnetwork = "fd77::/64"\npool = ["fd77::100-fd77::1ff"]\ndns = ["{SERVER6}"]\n'
        f"[dhcp6.subnet.options]\ndomain-list = {json.dumps(DOMAINS)}\n"
    )
    path.write_text(
        f'[bootfw]\nstate-dir = "{work}"\n[tftp]\nlisten = []\n[http]\nlisten = []\n'
        f'[dhcp]\nmode = "{mode}"\n[dhcp6]\nmode = "{mode}"\n{subnets if mode == "server" else ""}'
        '[[resolver]]\nuse = "static"\nfile = "boot/pxelinux.0"\n'
    )
    twistd = Path(sys.executable).with_name("twistd")
    return [[str(twistd), "--nodaemon", "--pidfile=", "bootfw", "-c", str(path)]]


def bootfw_proxy(work: Path) -> list[list[str]]:
    return bootfw(work, "proxy")


def dnsmasq(work: Path) -> list[list[str]]:
    program = _program("dnsmasq")
    return [] if program is None else [
        [
            *(program, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
            *(f"--dhcp-leasefile={work / 'leases'}", "--log-facility=-", "--bootp-dynamic", "--dhcp-authoritative"),
            *("--dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,1h", "--dhcp-range=fd77::100,fd77::1ff,64,1h"),
            *("--domain=example.org", f"--dhcp-option=option6:domain-search,{','.join(DOMAINS)}"),
            *(f"--dhcp-option={code},{LONG}" for code in range(224, 228)),
            "--dhcp-boot=boot/pxelinux.0",
        ]
    ]  # fmt: skip


def kea(work: Path) -> list[list[str]]:
    interfaces = {"interfaces-config": {"interfaces": ["eth0"]}}
    # Relays send to an address, and Kea hears groups only where none is named.
    interfaces6 = {"interfaces-config": {"interfaces": ["eth0", f"eth0/{SERVER6}"]}}
    common = {"lease-database": {"type": "memfile", "persist": False}, "valid-lifetime": 3600}
    codes = range(224, 228)
    names = [{"name": f"long-{code}", "code": code, "type": "string", "space": "dhcp4"} for code in codes]
    data = [{"name": f"long-{code}", "data": LONG} for code in codes]
    data += [{"name": "routers", "data": SERVER}, {"name": "domain-name-servers", "data": SERVER}]
    pools4, pools6 = [{"pool": "10.77.0.100-10.77.0.200"}], [{"pool": "fd77::100-fd77::1ff"}]
    subnet4 = {
        "subnet": "10.77.0.0/24",
        "pools": pools4,
        "option-data": [*data, {"name": "domain-name", "data": "example.org"}],
    }
    data6 = [{"name": "dns-servers", "data": SERVER6}, {"name": "domain-search", "data": ", ".join(DOMAINS)}]
    subnet6 = {"subnet": "fd77::/64", "interface": "eth0", "pools": pools6, "option-data": data6}
    identifier = {"type": "LL", "htype": 1, "identifier": "020000000001", "persist": False}
    configurations = {
        4: {**interfaces, **common, "option-def": names, "boot-file-name": "boot/pxelinux.0", "subnet4": [subnet4]},
        6: {**interfaces6, **common, "server-id": identifier, "subnet6": [subnet6]},
    }
    commands = []
    for family, configuration in configurations.items():
        program = _program(f"kea-dhcp{family}")
        if program is None or subprocess.run([program, "-V"], capture_output=True).returncode:
            return []
        path = work / f"kea{family}.json"
        path.write_text(json.dumps({f"Dhcp{family}": configuration}))
        commands.append([program, "-c", str(path)])
    return commands


SERVERS: dict[str, Callable[[Path], list[list[str]]]] = {
    "bootfw": bootfw,
    "bootfw as proxy": bootfw_proxy,
    "dnsmasq": dnsmasq,
    "Kea": kea,
}
"""Each gives the commands that it is made of; none: it is not on this machine."""


def _program(name: str) -> str | None:
    """On the machine, or where tools/install-clients unpacks it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{ROOT / '.clients/usr/sbin'}")


def measure(name: str, work: Path) -> list[float | None] | None:
    """Bytes received for each byte sent, by case; None there: the server has no such port. None: no such server."""
    commands = SERVERS[name](work)
    if not commands:
        return None
    with _network(), contextlib.ExitStack() as running:
        for number, command in enumerate(commands):
            running.enter_context(_running(command, work, work / f"log{number}"))
        ports = _bound_ports()
        return [_ratio(case) if case.destination[1] in ports else None for case in CASES]


def _ratio(case: Case) -> float:
    family = socket.AF_INET6 if ":" in case.destination[0] else socket.AF_INET
    with (
        _in_forger_namespace(),
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as sniffer,
    ):
        sniffer.bind(("eth0", _ETH_P_ALL))
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            scope = (0, socket.if_nametoindex("eth0")) if family == socket.AF_INET6 else ()
            # Port 68 of one address does not hear what is broadcast, but the packet socket does.
            sender.bind((case.source[0] or _link_local(), case.source[1], *scope))
            sent = sender.sendto(case.data, (*case.destination, *scope))
            return sum(_received(sniffer)) / sent


def _received(sniffer: socket.socket) -> Iterator[int]:
    """Bytes of UDP payload, of each datagram that a server has sent."""
    deadline = time.monotonic() + SILENCE
    while (remaining := deadline - time.monotonic()) > 0:
        sniffer.settimeout(remaining)
        try:
            packet, sender_address = sniffer.recvfrom(65535)
        except TimeoutError:
            return
        if sender_address[2] == socket.PACKET_OUTGOING:
            continue
        if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
            udp = packet[(packet[0] & 15) * 4 :]
        elif packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_UDP:
            udp = packet[40:]
        else:
            continue
        port, _, length = struct.unpack_from("!3H", udp)
        if port in _FROM_SERVERS:
            yield length - 8


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """A wire with a namespace at each end."""
    endpoints = (("server", SERVER, SERVER6), ("forger", FORGER, FORGER6))
    try:
        for name, _, _ in endpoints:
            _ip("netns", "add", f"{NAME}-{name}")
        peer = ("type", "veth", "peer", "name", "eth0", "netns", f"{NAME}-forger")
        _ip("-n", f"{NAME}-server", "link", "add", "eth0", *peer)
        for name, address, address6 in endpoints:
            in_namespace = ("-n", f"{NAME}-{name}")
            _ip(*in_namespace, "address", "add", f"{address}/24", "dev", "eth0")
            _ip(*in_namespace, "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
            _ip(*in_namespace, "link", "set", "eth0", "up")
            _ip(*in_namespace, "link", "set", "lo", "up")
        time.sleep(3)  # until the link-local addresses count
        yield
    finally:
        for name, _, _ in endpoints:
            subprocess.run(["ip", "netns", "delete", f"{NAME}-{name}"], check=False)


@contextlib.contextmanager
def _in_forger_namespace() -> Iterator[None]:
    """What is opened meanwhile is the forger's."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/self/ns/net") as own_namespace, open(f"/run/netns/{NAME}-forger") as forger_namespace:
        if setns(forger_namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            setns(own_namespace.fileno(), _CLONE_NEWNET)


def _link_local() -> str:
    result = subprocess.run(
        ["ip", "-n", f"{NAME}-forger", "-j", "address", "show", "dev", "eth0"], capture_output=True, check=True
    )
    [interface] = json.loads(result.stdout)
    return next(str(each["local"]) for each in interface["addr_info"] if each["local"].startswith("fe80"))


@contextlib.contextmanager
def _running(command: Sequence[str], work: Path, log: Path) -> Iterator[None]:
    environment = {**os.environ, "KEA_PIDFILE_DIR": str(work), "KEA_LOCKFILE_DIR": str(work)}
    with log.open("wb") as output:
        full_command = ["ip", "netns", "exec", f"{NAME}-server", *command]
        process = subprocess.Popen(full_command, stdout=output, stderr=output, env=environment)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} has ended:\n{log.read_text(errors='replace')}")
    finally:
        terminate(process)


def _bound_ports() -> set[int]:
    """Return the DHCP ports of the server, after giving it time to open them."""
    time.sleep(6)
    command = ["ip", "netns", "exec", f"{NAME}-server", "cat", "/proc/net/udp", "/proc/net/udp6", "/proc/net/raw"]
    sockets = subprocess.run(command, capture_output=True, text=True).stdout
    ports = {port for port in _FROM_SERVERS if f":{port:04X} " in sockets}
    if not ports:
        raise RuntimeError("the server has opened no port of DHCP")
    return ports


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def table(work: Path) -> tuple[str, bool]:
    """A Markdown table, and whether bootfw has kept its bounds."""
    ratios_by_server: dict[str, list[float | None]] = {}
    for number, name in enumerate(SERVERS):
        directory = work / f"dhcp{number}"
        directory.mkdir()
        measured_ratios = measure(name, directory)
        if measured_ratios is not None:
            ratios_by_server[name] = measured_ratios
    lines = [
        "| the forger sends | bytes | " + " | ".join(ratios_by_server) + " |",
        "| --- | --- |" + " --- |" * len(ratios_by_server),
    ]
    for number, case in enumerate(CASES):
        row = [ratios[number] for ratios in ratios_by_server.values()]
        cells = " | ".join("-" if ratio is None else f"{ratio:.1f}" for ratio in row)
        lines.append(f"| {case.name} | {len(case.data)} | {cells} |")
    within_bounds = all(
        ratio is None or case.bound is None or ratio <= case.bound
        for name in ratios_by_server
        if name.startswith("bootfw")
        for case, ratio in zip(CASES, ratios_by_server[name], strict=True)
    )
    return "\n".join(lines) + "\n", within_bounds
