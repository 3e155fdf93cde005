"""The quirks of personas in TFTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tftpserver import Files, Pending, Raising, Serve, failed, numbered

from bootfw.backends.directory import DirectoryBackend
from bootfw.boot.clients import Clients
from bootfw.errors import AccessViolation
from bootfw.events import TransferRefused
from bootfw.personas.rule import Rule
from bootfw.personas.table import Personas, stock
from bootfw.values import BootRequest
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

MISSING = tftp.Error(1, "File not found")


def personas(**entry: Any) -> Personas:
    """One persona, which applies to every client unless *entry* has tftp_files."""
    return Personas((Rule(name="x", **({"tftp_files": ("*",)} | entry)),))


def test_options_that_are_refused_are_left_out(serve: Serve) -> None:
    served = serve({"file": numbered(600)}, personas=personas(refuse_options=["blksize"]))

    assert served.peer().request("file", BLKSIZE=1400, tsize=0) == [tftp.OptionAck((("tsize", "600"),))]
    assert served.peer().request("file", blksize=1400) == [tftp.Data(1, numbered(512))]


def test_sizes_are_capped(serve: Serve) -> None:
    served = serve({"file": numbered(600)}, personas=personas(max_blksize=256, max_windowsize=2))

    assert served.peer().request("file", blksize=1400, windowsize=8) == [
        tftp.OptionAck((("blksize", "256"), ("windowsize", "2")))
    ]
    assert served.peer().request("file", blksize=128, windowsize=1) == [
        tftp.OptionAck((("blksize", "128"), ("windowsize", "1")))
    ]


def test_persona_limit_does_not_raise_the_limit_of_the_server(serve: Serve) -> None:
    served = serve({"file": b""}, personas=personas(max_blksize=65464, max_windowsize=65535), max_blksize=1024)

    assert served.peer().request("file", blksize=1400) == [tftp.OptionAck((("blksize", "1024"),))]


def test_quirks_apply_to_uploads(serve: Serve) -> None:
    served = serve({}, personas=personas(refuse_options=["blksize"]))

    assert served.peer().put("file", blksize=1400) == [tftp.Ack(0)]


def test_a_missing_file_can_be_sent_empty(serve: Serve) -> None:
    served = serve({"existing.lst": b"x"}, personas=personas(empty_when_missing=["*.lst"]))

    assert served.peer().request("dir/missing.lst", blksize=1024) == [tftp.OptionAck((("blksize", "1024"),))]
    assert served.peer().download("dir/missing.lst") == b""
    assert served.peer().download("existing.lst") == b"x"
    assert served.peer().request("missing.cfg") == [MISSING]


def test_alternatives_of_a_missing_file_are_tried(serve: Serve) -> None:
    alternatives = {"*/boot.cfg": ["by-name/{name}", "copy/{path}", "/default.cfg"]}
    files = {"default.cfg": b"default", "by-name/boot.cfg": b"name", "copy/a/boot.cfg": b"path", "b/boot.cfg": b"own"}
    served = serve(dict(files), personas=personas(instead=alternatives))

    assert served.peer().download("b/boot.cfg") == b"own"
    assert served.peer().download("a/boot.cfg") == b"name"
    del served.backend.files["by-name/boot.cfg"]
    assert served.peer().download("a/boot.cfg") == b"path"
    assert served.peer().download("c/boot.cfg") == b"default"
    assert served.peer().request("boot.cfg") == [MISSING]


@pytest.mark.parametrize(
    ("name", "mode", "write", "code"),
    [("missing", "octet", False, 1), ("file", "mail", False, 4), ("file", "octet", True, 2)],
)
def test_refusal_names_the_persona(serve: Serve, name: str, mode: str, write: bool, code: int) -> None:
    rule = Rule(name="x", tftp_options=("rollover",), max_blksize=512)
    served = serve({"file": b"x"}, writable=False, personas=Personas((rule,)))

    for options in ({"rollover": 0}, {}):
        [refusal] = served.peer().request(name, mode, write, **options)
        assert isinstance(refusal, tftp.Error)
        assert refusal.code == code
    assert [(event.code, event.persona) for event in served.of(TransferRefused)] == [(code, "x"), (code, "")]


TAILS = [
    "\udcff",
    "\udcffQ3*G",
    "a\x11",  # option 97
    "+\x03\x06\x01\x08\udcff",  # 43
    "]\x02",  # 93
    "M\x04iPXE",  # 77
    "<\x09PXEClient",  # 60
    "\x01\x04\udcff\udcff\udcff",  # 1: the code is no text
    "\x0f\x03lab",  # 15
    "\udc96\x04\x0a",  # 150
    "R\udc80abc",  # 82, of 128 bytes
    "+\x7fabc",
    "/\x04",  # 47
]
"""What may follow the file name in option 67, up to the first NUL: some clients take it for a part of the name."""


@pytest.mark.parametrize("tail", TAILS, ids=ascii)
@pytest.mark.parametrize("name", ["pxelinux.0", "/boot/grub.0"])
def test_an_option_behind_a_name_is_cut_off(serve: Serve, name: str, tail: str) -> None:
    served = serve({"pxelinux.0": b"x", "boot/grub.0": b"x"}, personas=stock())

    assert served.peer().download(name + tail) == b"x"
    assert served.peer().request("other" + tail) == [MISSING]


def test_an_option_behind_a_windows_path_is_cut_off(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "Boot").mkdir()
    (tmp_path / "Boot/wdsnbp.com").write_bytes(b"x")
    served = serve(DirectoryBackend(tmp_path), personas=stock())

    assert served.peer().download("boot\\WDSNBP.com\udcff") == b"x"


@pytest.mark.parametrize("name", ["pxelinux.0\x0f\x03lab", "pxelinux.0\udcff", "pxelinux.0a\x11", "pxelinux.0a"])
def test_name_is_not_cut_if_the_file_exists(serve: Serve, name: str) -> None:
    served = serve({"pxelinux.0": b"cut", "pxelinux.0a": b"cut less", name: b"whole"}, personas=stock())

    assert served.peer().download(name) == b"whole"


@pytest.mark.parametrize(
    "name",
    ["pxelinux.01", "pxelinux.0 ", "pxelinux.0~", "pxelinux.0\u00e4", "pxelinux.0\ufffd", "\x11", "a\x11", "\udcff"],
)
def test_a_name_without_an_option_behind_it_is_not_cut(serve: Serve, name: str) -> None:
    served = serve({"pxelinux.0": b"x"}, personas=stock())

    assert served.peer().request(name) == [MISSING]


@pytest.mark.parametrize("name", ["\x11", "a\x11", "\udcff"], ids=ascii)
def test_name_cut_to_nothing_is_missing(serve: Serve, tmp_path: Path, name: str) -> None:
    served = serve(DirectoryBackend(tmp_path), personas=stock())

    assert served.peer().request(name) == [MISSING]
    assert [event.detail for event in served.of(TransferRefused)] == [""]


def test_end_option_is_not_cut_after_a_letter_of_the_name(serve: Serve) -> None:
    served = serve({"vmlinuz": b"x"}, personas=stock())

    assert served.peer().request("vmlinuz1\udcff") == [MISSING]


def test_alternatives_are_tried_with_an_asynchronous_backend(serve: Serve) -> None:
    pending = Pending()
    served = serve(Files({"b": b"x"}, {"open": pending}), personas=personas(instead={"a": ["none", "b"]}))
    peer = served.peer()

    assert peer.request("a") == []
    for _ in range(3):
        pending.fire()
    assert peer.take() == []
    served.settle()
    assert peer.take() == [tftp.Data(1, b"x")]
    peer.send(tftp.ack(1))


@pytest.mark.parametrize("behaviour", [lambda call: call(), failed])
def test_quirks_of_missing_files_do_not_apply_to_unreadable_files(serve: Serve, behaviour: Callable[..., Any]) -> None:
    backend = Files({"b": b"x"}, {"open": Raising(AccessViolation(), behaviour)})
    served = serve(backend, personas=personas(instead={"a": ["b"]}, empty_when_missing=["*"]))

    assert served.peer().request("a") == [tftp.Error(2, "Access violation")]


def test_quirks_do_not_apply_to_other_clients(serve: Serve) -> None:
    served = serve({"file": numbered(600)}, personas=personas(tftp_files=("other",), max_blksize=8))

    assert served.peer().request("file", blksize=1400) == [tftp.OptionAck((("blksize", "1400"),))]


def test_quirks_of_a_dhcp_persona_apply_to_tftp(start: Serve) -> None:
    clients = Clients()
    served = start(
        {"file": numbered(600)},
        clients=clients,
        personas=Personas((Rule(name="rom", vendor_class="PXE", offer="file", refuse_options=["blksize"]),)),
    )
    clients.remember(BootRequest("52:54:00:00:00:01", "discover", "rom", "x86-bios", client_address="10.0.0.9"))

    assert served.peer(9).request("file", blksize=1400) == [tftp.Data(1, numbered(512))]
    assert served.peer(8).request("file", blksize=1400) == [tftp.OptionAck((("blksize", "1400"),))]


# With the personas that come with bootfw


def test_windows_finds_its_files_in_any_case(serve: Serve, tmp_path: Path) -> None:
    """Issue 5121 of windows-itpro-docs; the directory is as copied from a CD."""
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/bcd").write_bytes(b"store")
    served = serve(DirectoryBackend(tmp_path), personas=stock())

    assert served.peer().download("\\Boot\\BCD") == b"store"
    [oack] = served.peer().request("Boot/BCD", tsize=0, blksize=1456, windowsize=4, msftwindow=31416)
    assert oack == tftp.OptionAck((("tsize", "5"), ("blksize", "1456"), ("windowsize", "4")))
    assert served.peer().request("Boot/BCD", blksize=1456) == [MISSING]


@pytest.mark.parametrize("persona", ["u-boot", ""])
def test_u_boot_timeout_is_not_acknowledged_and_its_window_is_limited(serve: Serve, persona: str) -> None:
    """U-Boot 2023.01 on qemu-arm64, with tftpwindowsize 32: the 32nd block of a window was the last it received."""
    clients = Clients()
    clients.remember(
        BootRequest(
            "52:54:00:00:00:01", "discover", persona, "arm64-uboot", vendor_class="U-Boot", client_address="10.0.0.9"
        )
    )
    served = serve({"kernel": numbered(50_000)}, personas=stock(), clients=clients, watchdog=Adaptive())

    [oack] = served.peer(9).request("kernel", timeout=5, blksize=1468, windowsize=32)
    assert oack == tftp.OptionAck((("blksize", "1468"), ("windowsize", "8")))


def test_timeout_of_u_boot_known_from_dhcp_is_not_acknowledged(serve: Serve) -> None:
    clients = Clients()
    clients.remember(
        BootRequest(
            "52:54:00:00:00:01", "discover", "u-boot", "arm64-uboot", vendor_class="U-Boot", client_address="10.0.0.9"
        )
    )
    served = serve({"kernel": numbered(50_000)}, personas=stock(), clients=clients, watchdog=Fixed())

    [oack] = served.peer(9).request("kernel", timeout=1, blksize=1468)
    assert oack == tftp.OptionAck((("blksize", "1468"),))
    [oack] = served.peer(8).request("kernel", timeout=1, blksize=1468)
    assert oack == tftp.OptionAck((("timeout", "1"), ("blksize", "1468")))


def test_grub_gets_empty_lists_and_other_clients_an_error(serve: Serve) -> None:
    served = serve({"grub/grub.cfg": b"menu"}, personas=stock())

    grub: dict[str, Any] = {"blksize": 1024, "tsize": 0}
    assert served.peer().download("/grub/x86_64-efi/command.lst", **grub) == b""
    assert served.peer().download("/grub.cfg", **grub) == b"menu"
    assert served.peer().request("/grub.cfg-01-52-54-00-12-34-56", **grub) == [MISSING]
    assert served.peer().request("pxelinux.cfg/default", tsize=0, blksize=1408) == [MISSING]
    assert served.peer().request("grub.cfg", tsize=0, blksize=1408) == [MISSING]
