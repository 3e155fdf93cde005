"""The second stage: files that a client requests in the wrong directory are found beside its boot program."""

from collections.abc import Iterable
from typing import Any, NoReturn

import pytest
from narrowing import of_type
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer, implementer_only

from bootfw.backends.memory import MemoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.secondstage import FORGET_AFTER, MAX_CANDIDATES, MAX_CLIENTS, SHIM_SECONDS, SecondStageFinder
from bootfw.errors import FileMissing
from bootfw.events import Event, SecondStageFound
from bootfw.interfaces import IBackend, IReader, IShareableReader, IUniformBackend
from bootfw.readers import MemoryReader
from bootfw.values import TransferRequest


class Clients:
    """Several backends, and their clients."""

    def __init__(self, *backends: Iterable[str]) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.finder = SecondStageFinder(self.clock.seconds)
        layers = [(f"backend[{n}]", MemoryBackend({path: path for path in files})) for n, files in enumerate(backends)]
        self.backend = LayeredBackend(layers, self.finder, self.events.append)

    def get(self, path: str, client: str = "192.0.2.7", protocol: str = "tftp") -> str:
        """Download a file, and return its content, which is its path; "": it is missing."""
        request = TransferRequest("/" + path, path, (client, 2070), protocol=protocol)
        try:
            content: bytes = self.backend.open(path, request).read(0, 1000)
        except FileMissing:
            return ""
        return content.decode()

    @property
    def found(self) -> list[SecondStageFound]:
        return [of_type(SecondStageFound, event) for event in self.events]


DEBIAN = ("debian/shimx64.efi", "debian/grubx64.efi", "debian/mmx64.efi", "debian/grub.cfg", "debian/vmlinuz")


@pytest.mark.parametrize(
    ("loader", "requested", "found"),
    [
        # rhboot/shim #300, #524, #710: without the directory.
        ("debian/shimx64.efi", "grubx64.efi", "debian/grubx64.efi"),
        ("debian/shimx64.efi", "mmx64.efi", "debian/mmx64.efi"),
        # rhboot/shim #649, #696: what the firmware had in its load options.
        ("debian/shimx64.efi", "debian/\x12USB", "debian/grubx64.efi"),
        ("debian/shimx64.efi", "debian/?Onboard", "debian/grubx64.efi"),
        ("debian/shimx64.efi", "\udcfdUSB", "debian/grubx64.efi"),
        # GRUB behind proxyDHCP: no prefix, one character of it, or the one that is built in.
        ("debian/grubx64.efi", "grub.cfg", "debian/grub.cfg"),
        ("debian/grubx64.efi", "d/grub.cfg", "debian/grub.cfg"),
        ("debian/grubx64.efi", "grub/grub.cfg", "debian/grub.cfg"),
        ("debian/grubx64.efi", "EFI/debian/grub.cfg", "debian/grub.cfg"),
        ("debian/grubx64.efi", "vmlinuz", "debian/vmlinuz"),
        # A whole tree of grub-mknetdir that lies further down.
        ("a/boot/grub/x86_64-efi/core.efi", "boot/grub/x86_64-efi/normal.mod", "a/boot/grub/x86_64-efi/normal.mod"),
        ("a/boot/grub/x86_64-efi/core.efi", "boot/grub/grub.cfg", "a/boot/grub/grub.cfg"),
        # PXELINUX: without the prefix, and with the prefix before a path that has it already.
        ("bios/pxelinux.0", "ldlinux.c32", "bios/ldlinux.c32"),
        ("bios/pxelinux.0", "pxelinux.cfg/default", "bios/pxelinux.cfg/default"),
        ("bios/pxelinux.0", "bios/bios/kernel", "bios/kernel"),
        ("efi64/syslinux.efi", "ldlinux.e64", "efi64/ldlinux.e64"),
        # ipxe/ipxe #1684: iPXE's shim requests its next file from the root.
        ("ipxe/snponly-shim.efi", "ipxe.efi", "ipxe/ipxe.efi"),
    ],
)
@pytest.mark.parametrize("protocol", ["tftp", "http"])
def test_second_stage_is_found_beside_the_loader(loader: str, requested: str, found: str, protocol: str) -> None:
    clients = Clients((*DEBIAN, loader, found))
    assert clients.get(requested) == ""
    assert clients.get(loader, protocol=protocol) == loader
    assert clients.get(requested, protocol=protocol) == found
    assert [(event.request.path, event.path) for event in clients.found] == [(requested, found)]


@pytest.mark.parametrize(
    "requested",
    [
        "revocations.efi",
        "revocations_sku.efi",
        "debian/revocations_sbat.efi",
        "shim_certificate_0.efi",
        "debian/grub.cfg-01-52-54-00-00-00-01",
        "debian/pxelinux.cfg/default",
        "debian/x86_64-efi/command.lst",
        "nothing/like/it",
        "",
    ],
)
def test_file_without_a_second_stage_stays_missing(requested: str) -> None:
    clients = Clients(DEBIAN)
    clients.get("debian/shimx64.efi")
    clients.get("debian/grubx64.efi")
    assert clients.get(requested) == ""
    assert clients.events == []


def test_optional_files_are_found_beside_the_shim() -> None:
    clients = Clients((*DEBIAN, "debian/revocations.efi", "debian/shim_certificate_0.efi"))
    clients.get("debian/shimx64.efi")
    assert clients.get("revocations.efi") == "debian/revocations.efi"
    assert clients.get("shim_certificate_0.efi") == "debian/shim_certificate_0.efi"
    assert clients.get("grubx64.efi") == "debian/grubx64.efi"


def test_a_shim_of_any_name_is_recognized_by_its_requests() -> None:
    clients = Clients(("a/boot.efi", "a/grubaa64.efi"))
    clients.get("a/boot.efi")
    assert clients.get("a/?USB") == ""
    assert clients.get("revocations_sku.efi") == ""
    assert clients.get("a/?USB") == "a/grubaa64.efi"


def test_only_a_recently_loaded_shim_gets_grub_for_an_unknown_name() -> None:
    clients = Clients(DEBIAN)
    clients.get("debian/grubx64.efi")
    assert clients.get("debian/?USB") == ""
    clients.get("debian/shimx64.efi")
    assert clients.get("debian/other.efi") == ""
    clients.clock.advance(SHIM_SECONDS + 1)
    assert clients.get("debian/?USB") == ""


def test_grub_of_the_architecture_of_the_shim_is_found() -> None:
    clients = Clients(("a/shimaa64.efi", "a/grubaa64.efi", "a/grubx64.efi"))
    clients.get("a/shimaa64.efi")
    assert clients.get("a/?USB") == "a/grubaa64.efi"


def test_a_file_at_the_requested_path_wins() -> None:
    clients = Clients((*DEBIAN, "grubx64.efi", "grub/grub.cfg"))
    clients.get("debian/shimx64.efi")
    assert clients.get("grubx64.efi") == "grubx64.efi"
    clients.get("debian/grubx64.efi")
    assert clients.get("grub/grub.cfg") == "grub/grub.cfg"
    assert clients.events == []


def test_a_file_beside_the_loader_wins_over_later_backends() -> None:
    """This shim does not start the GRUB of another distribution."""
    clients = Clients(("grub.cfg",), DEBIAN, ("grubx64.efi", "other.efi", "grub.cfg", "boot.ipxe"))
    clients.get("debian/shimx64.efi")
    assert clients.get("grubx64.efi") == "debian/grubx64.efi"
    assert clients.get("grub.cfg") == "grub.cfg"
    assert clients.get("boot.ipxe") == "boot.ipxe"
    assert clients.get("other.efi") == "other.efi"
    assert clients.get("grubx64.efi") == "grubx64.efi", "the last loader came from the last backend"


def test_a_file_beside_the_loader_in_another_backend_is_found() -> None:
    clients = Clients(("grub.cfg",), ("grubx64.efi",))
    clients.get("grubx64.efi")
    assert clients.get("grub/grub.cfg") == "grub.cfg"


def test_each_client_has_its_own_loader() -> None:
    clients = Clients((*DEBIAN, "fedora/shimx64.efi", "fedora/grubx64.efi"))
    clients.get("debian/shimx64.efi", "192.0.2.1")
    clients.get("fedora/shimx64.efi", "fe80::1%3")
    assert clients.get("grubx64.efi", "192.0.2.1") == "debian/grubx64.efi"
    assert clients.get("grubx64.efi", "fe80::1%3") == "fedora/grubx64.efi"
    assert clients.get("grubx64.efi", "192.0.2.3") == ""


def test_clients_without_requests_are_forgotten() -> None:
    clients = Clients(DEBIAN)
    clients.get("debian/shimx64.efi")
    for _ in range(3):
        clients.clock.advance(FORGET_AFTER)
        assert clients.get("vmlinuz") == "debian/vmlinuz"
    clients.clock.advance(FORGET_AFTER + 1)
    assert clients.get("vmlinuz") == ""
    clients.get("debian/shimx64.efi")
    clients.clock.advance(FORGET_AFTER + 1)
    clients.get("debian/shimx64.efi", "192.0.2.8")
    assert len(clients.finder) == 1


def test_number_of_remembered_clients_is_bounded() -> None:
    clients = Clients(DEBIAN)
    for number in range(MAX_CLIENTS + 10):
        clients.get("debian/shimx64.efi", f"client {number}")
    assert len(clients.finder) == MAX_CLIENTS
    assert clients.get("vmlinuz", "client 9") == ""
    assert clients.get("vmlinuz", "client 10") == "debian/vmlinuz"


def test_only_boot_programs_are_remembered() -> None:
    clients = Clients(("a/vmlinuz", "a/initrd.img", "a/mmx64.efi", "a/revocations.efi", "a/b"))
    for path in ("a/vmlinuz", "a/initrd.img", "a/mmx64.efi", "a/revocations.efi"):
        clients.get(path)
    assert len(clients.finder) == 0
    assert clients.get("b") == ""


def test_number_of_candidates_is_limited() -> None:
    @implementer(IBackend)
    class EmptyBackend:
        def open(self, path: str, request: TransferRequest) -> NoReturn:
            opened.append(path)
            raise FileMissing

    opened: list[str] = []
    finder = SecondStageFinder(Clock().seconds)
    finder.remember("192.0.2.7", "/".join("x" * 50) + "/core.efi", 0)
    path = "/".join("y" * 50) + ".mod"
    with pytest.raises(FileMissing):
        LayeredBackend([("empty", EmptyBackend())], finder).open(path, TransferRequest(path, path, ("192.0.2.7", 2070)))
    assert len(opened) == 1 + MAX_CANDIDATES


def test_candidates_of_an_asynchronous_backend_are_limited() -> None:
    @implementer(IBackend)
    class AsynchronousBackend:
        def open(self, path: str, request: TransferRequest) -> Deferred[IReader]:
            answer: Deferred[IReader] = Deferred()
            waiting.append((path, answer))
            return answer

    waiting: list[tuple[str, Deferred[IReader]]] = []
    found: list[object] = []
    events: list[Event] = []
    backend = LayeredBackend(
        [("asynchronous", AsynchronousBackend())], SecondStageFinder(Clock().seconds), events.append
    )
    shim, grub = (TransferRequest(path, path, ("192.0.2.7", 2070)) for path in ("a/shimx64.efi", "grubx64.efi"))
    backend.open(shim.path, shim)
    waiting.pop()[1].callback(MemoryReader(b"shim"))
    backend.open(grub.path, grub).addBoth(found.append)
    waiting.pop()[1].errback(FileMissing())
    path, answer = waiting.pop()
    assert path == "a/grubx64.efi"
    answer.callback(reader := MemoryReader(b"grub"))
    assert found == [reader]
    assert events == [SecondStageFound(0, grub, "a/grubx64.efi")]


def test_a_file_missing_for_others_of_the_batch_is_found_beside_a_loader() -> None:
    clients = Clients(DEBIAN)
    clients.get("debian/shimx64.efi", "192.0.2.8")
    clients.backend.begin_batch()

    assert clients.get("grubx64.efi", "192.0.2.7") == ""
    assert clients.get("grubx64.efi", "192.0.2.8") == "debian/grubx64.efi"


@implementer(IShareableReader)
class SharedReader(MemoryReader):
    def share(self) -> IReader:
        return self


@implementer_only(IUniformBackend)
class RecordingBackend(MemoryBackend):
    """Records the opened paths. Its readers can be shared."""

    def __init__(self, files: Iterable[str]) -> None:
        super().__init__({path: path for path in files})
        self.opened: list[str] = []

    def open(self, path: str, request: Any) -> IReader:
        self.opened.append(path)
        return SharedReader(of_type(bytes, super().open(path, request).read(0, 1000)))


def clients_of_one_backend(*files: str) -> tuple[Clients, RecordingBackend]:
    clients = Clients()
    backend = RecordingBackend(files)
    clients.backend = LayeredBackend([("recording", backend)], clients.finder, clients.events.append)
    return clients, backend


def test_each_path_is_tried_once_per_batch() -> None:
    clients, backend = clients_of_one_backend(
        "bios/pxelinux.0", "efi64/syslinux.efi", "bios/ldlinux.c32", "efi64/ldlinux.c32"
    )
    for client in "ab":
        clients.get("bios/pxelinux.0", client)
    clients.get("efi64/syslinux.efi", "c")
    backend.opened.clear()
    clients.backend.begin_batch()
    assert [clients.get("ldlinux.c32", client) for client in "abcd"] == [
        "bios/ldlinux.c32",
        "bios/ldlinux.c32",
        "efi64/ldlinux.c32",
        "",
    ]
    assert backend.opened == ["ldlinux.c32", "bios/ldlinux.c32", "efi64/ldlinux.c32"]
    assert [(event.request.peer[0], event.path) for event in clients.found] == [
        ("a", "bios/ldlinux.c32"),
        ("b", "bios/ldlinux.c32"),
        ("c", "efi64/ldlinux.c32"),
    ]


def test_shared_load_sets_the_loader_of_each_client() -> None:
    clients, backend = clients_of_one_backend("bios/pxelinux.0", "bios/ldlinux.c32")
    clients.backend.begin_batch()
    for client in "ab":
        clients.get("bios/pxelinux.0", client)
    assert backend.opened == ["bios/pxelinux.0"]
    clients.backend.end_batch()
    assert [clients.get("ldlinux.c32", client) for client in "ab"] == ["bios/ldlinux.c32"] * 2


def test_shim_time_limit_is_per_client() -> None:
    clients, _ = clients_of_one_backend(*DEBIAN)
    clients.get("debian/shimx64.efi", "a")
    clients.clock.advance(SHIM_SECONDS)
    clients.get("debian/shimx64.efi", "b")
    clients.clock.advance(1)
    clients.backend.begin_batch()
    assert [clients.get("\x12USB", client) for client in "ab"] == ["", "debian/grubx64.efi"]
