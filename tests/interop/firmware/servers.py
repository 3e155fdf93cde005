"""The boot server of a boot: bootfw, or dnsmasq to compare it with. Both get the same files and the same task."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from bootfw.wire.iana import architecture_codes

from ..lab import Host, Lab, Program, need
from ..service import start_bootfw
from .files import SERVER, SERVER6

_ADDRESSES6 = ("--enable-ra", "--dhcp-range=fd77::100,fd77::200,64,1h")
_HTTP_CLIENT = b"HTTPClient".hex(":")

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
    ipv6: bool = False
    """By IPv6 alone. Another server gives the addresses to bootfw's clients in any case; dnsmasq gives its own."""


def bootfw(lab: Lab, host: Host, task: Task) -> None:
    subnet = """
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        router = "10.77.0.1"
    """
    mode = "off" if task.ipv6 else "proxy" if task.proxy else "server"
    boot_files = "\n".join(f'"{name}" = "{file}"' for name, file in task.files.items())
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        workers = 2
        [boots]
        quiet-seconds = 3
        [http]
        listen = ["{"[::]" if task.ipv6 else "0.0.0.0"}:80"]
        [dhcp]
        mode = "{mode}"
        {subnet if mode == "server" else ""}
        [dhcp6]
        mode = "{"proxy" if task.ipv6 else "off"}"
        [[backend]]
        use = "directory"
        root = "{task.root}"
        [[backend]]
        use = "distribution"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        {boot_files}
    """
    ports = {"off": (547, 4011), "proxy": (67, 4011), "server": (67,)}[mode]
    start_bootfw(host, lab.directory, configuration, *ports, 69)


def dnsmasq(lab: Lab, host: Host, task: Task) -> None:
    """dnsmasq has no HTTP server; Python's stands beside it."""
    host.start(sys.executable, "-m", "http.server", "80", "--bind", "::", "--directory", task.root, name="httpd")
    tftp = ("--enable-tftp", f"--tftp-root={task.root}")
    if task.ipv6:
        start_dnsmasq(lab, host, *tftp, *_ADDRESSES6, *_options6(task.files)).wait_until_bound(547, 69)
        return
    options = [*tftp, "--dhcp-match=set:ipxe,175"]
    unless_ipxe = "tag:!ipxe," if "ipxe" in task.files else ""
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
            options += [f"--pxe-service={unless_ipxe}{code},boot,{file}" for code in codes]
        else:
            options.append(f"--dhcp-boot={unless_ipxe}tag:{name},{file}")
    addresses = "10.77.0.0,proxy" if task.proxy else "10.77.0.100,10.77.0.200,1h"
    start_dnsmasq(lab, host, f"--dhcp-range={addresses}", *options).wait_until_bound(67, 69)


def _options6(files: Mapping[str, str]) -> list[str]:
    """For the only client that there is."""
    ((name, file),) = files.items()
    if not name.endswith("-http"):
        return [f"--dhcp-option=option6:bootfile-url,tftp://[{SERVER6}]/{file}"]
    url = file.replace("{http}", f"http://[{SERVER6}]")
    # A vendor class of no enterprise, with one text of 10 bytes.
    return [f"--dhcp-option=option6:bootfile-url,{url}", f"--dhcp-option=option6:16,00:00:00:00:00:0a:{_HTTP_CLIENT}"]


SERVERS: dict[str, Callable[[Lab, Host, Task], None]] = {"bootfw": bootfw, "dnsmasq": dnsmasq}


def start_router(lab: Lab) -> None:
    """Advertises itself with nothing to offer: iPXE waits 13 s for a router before it goes on."""
    host = lab.host("router", "10.77.0.2/24", "fd77::2/64")
    start_dnsmasq(lab, host, "--dhcp-range=fd77::,ra-only", "--enable-ra", "--ra-param=eth0,0,0")


def start_address_server(lab: Lab) -> None:
    """Another DHCP server: it assigns addresses, and names no boot files."""
    host = lab.host("dhcp", "10.77.0.3/24")
    start_dnsmasq(lab, host, "--dhcp-range=10.77.0.100,10.77.0.200,1h").wait_until_bound(67)


def start_address_server6(lab: Lab) -> None:
    """The same by DHCPv6, and a router."""
    start_dnsmasq(lab, lab.host("dhcp", "fd77::2/64"), *_ADDRESSES6).wait_until_bound(547)


def start_dnsmasq(lab: Lab, host: Host, *options: str) -> Program:
    """dnsmasq without DNS, with these *options*."""
    need("dnsmasq")
    return host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", "--no-ping", f"--dhcp-leasefile={lab.directory / host.name}.leases"),
        *("--interface=eth0", "--bind-interfaces", *options),
    )
