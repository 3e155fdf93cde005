"""The boot server of a boot: bootfw, or dnsmasq to compare it with. Both get the same files and the same task."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from bootfw.wire.iana import architecture_codes

from ..lab import Host, Lab, Program, need
from ..service import start_bootfw
from .files import SERVER

ANY = "unknown"
"""In *files*: clients that don't say what they are. As in by-architecture."""


@frozen
class Task:
    """What a boot server is to do."""

    root: Path
    files: Mapping[str, str]
    """Architecture in bootfw's words, "ipxe" or ANY: a path below *root* for TFTP, or ``{http}/`` and the path."""
    proxy: bool
    """Whether another server gives the addresses."""


def bootfw(lab: Lab, host: Host, task: Task) -> None:
    network = """
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        router = "10.77.0.1"
    """
    choices = "\n".join(f'"{name}" = "{file}"' for name, file in task.files.items())
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [http]
        listen = ["0.0.0.0:80"]
        [dhcp]
        mode = "{"proxy" if task.proxy else "server"}"
        {"" if task.proxy else network}
        [[backend]]
        use = "directory"
        root = "{task.root}"
        [[backend]]
        use = "distribution"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        {choices}
    """
    start_bootfw(host, lab.directory, configuration, 67, 69, *((4011,) if task.proxy else ()))


def dnsmasq(lab: Lab, host: Host, task: Task) -> None:
    """dnsmasq has no HTTP server; Python's stands beside it."""
    options = ["--enable-tftp", f"--tftp-root={task.root}", "--dhcp-match=set:ipxe,175"]
    first = "tag:!ipxe," if "ipxe" in task.files else ""
    for name, file in task.files.items():
        file = file.replace("{http}", f"http://{SERVER}")
        codes = list(architecture_codes(name))
        options += [f"--dhcp-match=set:{name},option:client-arch,{code}" for code in codes]
        if name.endswith("-http"):
            options.append(f"--dhcp-boot=tag:{name},{file}")
            options.append(f"--dhcp-option-force=tag:{name},60,HTTPClient")
        elif name == "ipxe":
            options.append(f"--dhcp-boot=tag:ipxe,{file}")
            options += [f"--pxe-service=tag:ipxe,{code},boot,{file}" for code in ("x86PC", "X86-64_EFI")]
        elif name == ANY:
            options.append(f"--dhcp-boot={file}")
        elif task.proxy:
            options += [f"--pxe-service={first}{code},boot,{file}" for code in codes]
        else:
            options.append(f"--dhcp-boot={first}tag:{name},{file}")
    addresses = "10.77.0.0,proxy" if task.proxy else "10.77.0.100,10.77.0.200,1h"
    _start_dnsmasq(lab, host, f"--dhcp-range={addresses}", *options).wait_until_bound(67, 69)
    host.start(sys.executable, "-m", "http.server", "80", "--directory", task.root, name="httpd")


SERVERS: dict[str, Callable[[Lab, Host, Task], None]] = {"bootfw": bootfw, "dnsmasq": dnsmasq}


def start_router(lab: Lab) -> Host:
    """Advertises itself with nothing to offer: iPXE waits 13 s for a router before it goes on."""
    host = lab.host("router", "10.77.0.2/24", "fd77::2/64")
    _start_dnsmasq(lab, host, "--dhcp-range=fd77::,ra-only", "--enable-ra", "--ra-param=eth0,0,0")
    return host


def start_address_server(lab: Lab) -> None:
    """Somebody else's DHCP server: it gives out plain addresses, and no boot files."""
    _start_dnsmasq(lab, lab.host("dhcp", "10.77.0.3/24"), "--dhcp-range=10.77.0.100,10.77.0.200,1h").wait_until_bound(
        67
    )


def _start_dnsmasq(lab: Lab, host: Host, *options: str) -> Program:
    need("dnsmasq")
    return host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", "--no-ping", f"--dhcp-leasefile={lab.directory / host.name}.leases"),
        *("--interface=eth0", "--bind-interfaces", *options),
    )
