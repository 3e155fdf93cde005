"""What can be set, as frozen values with the defaults. The configuration file is one way to make them."""

from attrs import field, frozen

ListenAddress = tuple[str, int]
"""(IPv4 or IPv6 address, UDP or TCP port)."""


@frozen
class TFTPSettings:
    """``[tftp]``"""

    listen: tuple[ListenAddress, ...] = (("0.0.0.0", 69), ("::", 69))
    ports: str | tuple[int, int] = "single"
    """ "single": every reply leaves from the port that was asked. "ephemeral": a port for each transfer, the kernel's
    choice (RFC 1350). (first, last): the same, from a range."""
    writable: bool = False
    max_blksize: int = 1468
    """Octets (RFC 2348)."""
    max_windowsize: int = 64
    """Blocks (RFC 7440)."""


@frozen
class DHCPSettings:
    """``[dhcp]``"""

    mode: str = "proxy"
    """ "off" or "proxy"."""
    server_port: int = 67
    client_port: int = 68
    boot_server_port: int = 4011
    answer_within_seconds: float = 0.8
    """For the whole resolver chain: iPXE asks port 4011 only twice, one second apart."""


@frozen
class Settings:
    """Everything but the plugins."""

    interfaces: tuple[str, ...] = ()
    """Names; empty: every interface."""
    state_dir: str = ""
    """ means a directory of the user."""
    tftp: TFTPSettings = field(factory=TFTPSettings)
    dhcp: DHCPSettings = field(factory=DHCPSettings)
