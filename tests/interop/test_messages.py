"""The texts of firmware on docs/messages.md are those of the firmware that Debian has."""

import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import need

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parent.parent.parent / "docs" / "messages.md"

FIRMWARE = {
    "EDK II": "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "iPXE": "/usr/lib/ipxe/ipxe.efi",
    "shim": "/usr/lib/shim/shimx64.efi.signed",
}
"""Word of the column "Of" -> the program."""

_LZMA = re.compile(rb"\x5d\x00\x00[\x00-\xff]{2}.{3}\x00{5}", re.DOTALL)
"""Header of a volume that EDK II has compressed: properties, the size of the dictionary, and a length of 64 bits."""


def texts(firmware: str) -> list[str]:
    """The texts of a firmware in the table of the page."""
    table = PAGE.read_text().partition("## Where the texts come from")[2]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return [text for row in rows if firmware in row[1] for text in re.findall(r"`([^`]+)`", row[0])]


def texts_in_program(path: Path) -> bytes:
    """A program, with what is compressed in it; texts of UEFI have two bytes for each character."""
    raw = path.read_bytes()
    everything = b"".join([raw, *_unpacked(raw)])
    return everything + everything.replace(b"\0", b"")


def _unpacked(raw: bytes) -> Iterator[bytes]:
    for header in _LZMA.finditer(raw):
        try:
            yield lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(raw[header.start() :])
        except lzma.LZMAError:
            continue


@pytest.mark.parametrize("firmware", FIRMWARE)
def test_texts_of_the_page_are_in_the_firmware(firmware: str) -> None:
    need(FIRMWARE[firmware])
    content = texts_in_program(Path(FIRMWARE[firmware]))
    page_texts = texts(firmware)
    assert page_texts
    assert [text for text in page_texts if text.encode() not in content] == []
