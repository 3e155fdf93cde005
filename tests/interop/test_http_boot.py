"""UEFI firmware boots by HTTP and by HTTPS from ``twistd bootfw``.

That a machine booted is shown by a marker on its console: random, and nowhere but in the last file it had to fetch.
"""

import secrets
import shutil
import struct
import uuid
from pathlib import Path

import pytest

from .lab import Host, Lab, need
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS
from .service import BOOTFW, OWN_STATE, start_bootfw

pytestmark = pytest.mark.interop


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture
def root(tmp_path: Path, marker: str) -> Path:
    """iPXE, which is what the firmware boots, and the script that iPXE runs."""
    need("/usr/lib/ipxe/snponly.efi")
    path = tmp_path / "served"
    path.mkdir()
    shutil.copy("/usr/lib/ipxe/snponly.efi", path)
    (path / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    return path


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("bootfw", "10.77.0.1/24")


def start_dhcp_server(lab: Lab) -> None:
    """It gives out plain addresses, and tells that there is no IPv6 for them: iPXE waits 13 s for that."""
    need("dnsmasq")
    host = lab.host("dhcp", "10.77.0.2/24", "fd77::2/64")
    host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", "--no-ping", f"--dhcp-leasefile={lab.directory / 'leases'}"),
        *("--interface=eth0", "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.200,1h"),
        *("--enable-ra", "--dhcp-range=fd77::,ra-only", "--ra-param=eth0,0,0"),
    ).wait_until_bound(67)


def signature_list(certificate: bytes) -> bytes:
    """A certificate that firmware is to trust, as it keeps those (UEFI specification 2.10, section 32.4.1)."""
    x509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
    signature = uuid.uuid4().bytes_le + certificate
    return x509 + struct.pack("<III", 28 + len(signature), 0, len(signature)) + signature


def test_by_http_without_a_configuration(lab: Lab, server: Host, root: Path, marker: str) -> None:
    """Beside another DHCP server; the operator has put files into /srv/boot, and that is all."""
    start_dhcp_server(lab)
    mounts = f"mount -t tmpfs none /srv; mkdir /srv/boot; mount --bind {root} /srv/boot; {OWN_STATE}"
    bootfw = server.start(*BOOTFW, name="bootfw", setup_command=mounts)
    bootfw.wait_until_bound(67, 69, 4011)
    console = start_uefi_machine(lab, pxe4=False)
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")
    assert "boots 'http://10.77.0.1:8069/snponly.efi'" in bootfw.output
    assert "got '/snponly.efi': complete" in bootfw.output
    assert "got '/boot.ipxe': complete" in bootfw.output
    assert "\ntftp 10." not in bootfw.output


@pytest.mark.firmware  # HTTPS by curl: test_howto
def test_by_https_from_the_server_of_addresses(lab: Lab, server: Host, root: Path, marker: str) -> None:
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    authority = certificates.Authority()
    for name, pem in zip(("chain.pem", "key.pem"), authority.issue("10.77.0.1"), strict=True):
        (lab.directory / name).write_bytes(pem)
    certificate_list = lab.directory / "cacerts"
    certificate_list.write_bytes(signature_list(authority.der))
    bootfw = start_bootfw(
        server,
        lab.directory,
        f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [http]
        listen = ["0.0.0.0:80"]
        https-listen = ["0.0.0.0:443"]
        certificate = "chain.pem"
        key = "key.pem"
        [dhcp]
        mode = "server"
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        [[backend]]
        use = "directory"
        root = "{root}"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        "x86_64-uefi-http" = "{{https}}/snponly.efi"
        "ipxe" = "{{http}}/boot.ipxe"
        """,
        67,
        69,
    )
    console = start_uefi_machine(lab, pxe4=False, fw_cfg={"etc/edk2/https/cacerts": f"file={certificate_list}"})
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")
    assert "boots 'https://10.77.0.1/snponly.efi'" in bootfw.output
    assert "https 10.77.0.100:" in bootfw.output
