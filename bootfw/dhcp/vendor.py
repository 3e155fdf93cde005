"""What goes with the name of a boot file, as the client's persona has it."""

from bootfw.values import BootFile, BootMenu, Option43, Persona
from bootfw.wire import options as codec
from bootfw.wire import pxe
from bootfw.wire.options import Option
from bootfw.wire.pxe import BootServers, DiscoveryControl, MenuItem, MenuPrompt, VendorOptions

USE_BOOT_FILE = pxe.pack(VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE))


def _raspberry_pi(item: str) -> bytes:
    """A menu of one item, chosen at once; raspberrypi/documentation issue 1686: it has to be a whole menu."""
    control = DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST
    return pxe.pack(VendorOptions(control, menu=(MenuItem(0, item),), prompt=MenuPrompt(0, "PXE")))


_OPTION_43 = {
    Option43.NONE: b"",
    Option43.USE_BOOT_FILE: USE_BOOT_FILE,
    Option43.MENU: USE_BOOT_FILE,
    Option43.RASPBERRY_PI: _raspberry_pi("Raspberry Pi Boot"),
    Option43.RASPBERRY_PI_3: _raspberry_pi("Raspberry Pi Boot   "),
}


def option_43(persona: Persona) -> bytes:
    """What *persona* has beside its boot file; empty: nothing."""
    return _OPTION_43[persona.option_43]


def menu_option_43(menu: BootMenu, server: str) -> bytes:
    """*menu*; the client asks *server* for the item that is picked."""
    files = [BootServers(item.type, (server,)) for item in menu.items if item.file is not None]
    return pxe.pack(
        VendorOptions(
            DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST,
            boot_servers=tuple(files),
            menu=tuple(MenuItem(item.type, item.description) for item in menu.items),
            prompt=MenuPrompt(menu.timeout_seconds, menu.prompt),
        )
    )


def pxelinux_options(file: BootFile) -> dict[int, bytes]:
    """What PXELINUX is told beside its name (RFC 5071)."""
    options: dict[int, bytes] = {}
    if file.configfile:
        options[Option.PXELINUX_CONFIG_FILE] = codec.text_bytes(file.configfile)
    if file.pathprefix:
        options[Option.PXELINUX_PATH_PREFIX] = codec.text_bytes(file.pathprefix)
    if file.reboot_seconds is not None:
        options[Option.PXELINUX_REBOOT_TIME] = codec.uint32_bytes(file.reboot_seconds)
    return options


def server_options(server: str, persona: Persona) -> dict[int, bytes]:
    """The options that name the TFTP server to who does not go by siaddr."""
    values = {
        Option.TFTP_SERVER_NAME: codec.text_bytes(server),
        Option.TFTP_SERVER_ADDRESS: codec.address_bytes(server),
    }
    return {code: value for code, value in values.items() if code in persona.tftp_server_options}
