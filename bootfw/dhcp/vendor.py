"""What goes with the name of a boot file, as the client's persona has it."""

from bootfw.values import Option43, Persona
from bootfw.wire import options as codec
from bootfw.wire import pxe
from bootfw.wire.options import Option
from bootfw.wire.pxe import DiscoveryControl, MenuItem, MenuPrompt, VendorOptions

USE_BOOT_FILE = pxe.pack(VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE))


def _raspberry_pi(item: str) -> bytes:
    """A menu of one item, chosen at once; raspberrypi/documentation issue 1686: it has to be a whole menu."""
    control = DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST
    return pxe.pack(VendorOptions(control, menu=(MenuItem(0, item),), prompt=MenuPrompt(0, "PXE")))


_OCTETS = {
    Option43.NONE: b"",
    Option43.USE_BOOT_FILE: USE_BOOT_FILE,
    Option43.MENU: USE_BOOT_FILE,
    Option43.RASPBERRY_PI: _raspberry_pi("Raspberry Pi Boot"),
    Option43.RASPBERRY_PI_3: _raspberry_pi("Raspberry Pi Boot   "),
}


def option_43(persona: Persona) -> bytes:
    """What *persona* has beside its boot file; empty: nothing."""
    return _OCTETS[persona.option_43]


def server_options(server: str, persona: Persona) -> dict[int, bytes]:
    """The options that name the TFTP server to who does not go by siaddr."""
    values = {
        Option.TFTP_SERVER_NAME: codec.text_bytes(server),
        Option.TFTP_SERVER_ADDRESS: codec.address_bytes(server),
    }
    return {code: value for code, value in values.items() if code in persona.tftp_server_options}
