"""Client system architectures by number and by the name that configurations use.

The numbers are those of the registry "Processor Architecture Types" of IANA's DHCPv6 parameters (first RFC 4578,
then RFC 5970), which DHCPv4 option 93 and DHCPv6 option 61 share; copied on 2026-11-20, up to 41.
"""

from collections.abc import Mapping
from types import MappingProxyType

ARCHITECTURES: Mapping[int, str] = MappingProxyType(
    {
        0: "x86-bios",
        1: "pc98",
        2: "ia64-efi",
        3: "alpha",
        4: "arc-x86",
        5: "intel-lean-client",
        6: "x86-uefi",
        7: "x86_64-uefi",
        8: "xscale-efi",
        # Registered as EFI byte code. RFC 4578 had 7 and 9 the other way round (erratum 4624), and firmware written
        # from it says 9 on x64; nothing is known to boot byte code.
        9: "x86_64-uefi",
        10: "arm32-uefi",
        11: "arm64-uefi",
        12: "ppc-open-firmware",
        13: "ppc-epapr",
        14: "ppc-opal",
        15: "x86-uefi-http",
        16: "x86_64-uefi-http",
        17: "ebc-uefi-http",  # Not x64: the erratum is older than the HTTP numbers.
        18: "arm32-uefi-http",
        19: "arm64-uefi-http",
        20: "x86-bios-http",
        21: "arm32-uboot",
        22: "arm64-uboot",
        23: "arm32-uboot-http",
        24: "arm64-uboot-http",
        25: "riscv32-uefi",
        26: "riscv32-uefi-http",
        27: "riscv64-uefi",
        28: "riscv64-uefi-http",
        29: "riscv128-uefi",
        30: "riscv128-uefi-http",
        31: "s390",
        32: "s390-extended",
        33: "mips32-uefi",
        34: "mips64-uefi",
        35: "sunway32-uefi",
        36: "sunway64-uefi",
        37: "loongarch32-uefi",
        38: "loongarch32-uefi-http",
        39: "loongarch64-uefi",
        40: "loongarch64-uefi-http",
        41: "arm-rpiboot",
    }
)
"""Code to name. A name may have several codes."""


NETWORK_GEAR = "network-gear"
"""Switches, routers and telephones, which load a configuration. The registry does not have them; personas do."""


def architecture_name(code: int) -> str:
    """Return the name of an architecture, such as "x86_64-uefi"; "arch-99" for a number that is not in the table."""
    return ARCHITECTURES.get(code) or f"arch-{code}"


def architecture_codes(name: str) -> tuple[int, ...]:
    """Return the codes that :func:`architecture_name` calls *name*; none when there is no such name."""
    codes = tuple(code for code, architecture in ARCHITECTURES.items() if architecture == name)
    number = name.removeprefix("arch-")
    if not number.isdecimal() or len(number) > 5:
        return codes
    code = int(number)
    return (code,) if code <= 0xFFFF and architecture_name(code) == name else ()
