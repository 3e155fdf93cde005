"""Boots as lists of events, to fold: a machine that goes from stage to stage at times that the test gives."""

from typing import Any

from attrs import define, evolve, field

from bootfw.attempts.attempt import BootAttempt, StageKind
from bootfw.attempts.fold import Attempts
from bootfw.events import (
    AddressRefused,
    Event,
    FileWithheld,
    OfferMade,
    OfferWithheld,
    RequestClassified,
    ResolverAnswered,
    TransferBegun,
    TransferEnded,
    TransferRefused,
)
from bootfw.values import (
    Address,
    Agreed,
    BootFile,
    BootRequest,
    Client,
    Outcome,
    TransferReport,
    TransferRequest,
)

WALL = 1_763_640_000.0
"""Seconds since the epoch at second 0 of the reactor's clock."""

SERVER = "10.77.0.1"
MAC = "52:54:00:12:34:56"
UUID = "52420077-1234-4abc-9def-000000000001"
ADDRESS = "10.77.0.20"

UEFI = BootRequest(
    MAC,
    "discover",
    "uefi",
    "x86_64-uefi",
    (7,),
    UUID,
    "PXEClient:Arch:00007:UNDI:003000",
    server=SERVER,
    http_url=f"http://{SERVER}",
    interface="eth0",
    xid=7,
    options={55: b"\1\2\3"},
)
IPXE_ROM = evolve(
    UEFI,
    persona="ipxe",
    architecture="x86-bios",
    vendor_class="PXEClient:Arch:00000:UNDI:002001",
    user_classes=("iPXE",),
    ipxe=True,
    options={55: b"\1\3\6"},
)
IPXE = evolve(IPXE_ROM, architecture="x86_64-uefi", vendor_class="PXEClient:Arch:00007:UNDI:003010", xid=70)
GRUB = evolve(UEFI, persona="uefi", uuid=None, options={55: b"\1\3"}, xid=71)
SYSTEM = evolve(UEFI, persona="linux", may_be_system=True, vendor_class="", uuid=None, options={55: b"\1"}, xid=72)


@define(eq=False)
class Machine:
    """A machine on the wire of a server that folds."""

    request: BootRequest = UEFI
    address: str = ADDRESS
    clients: dict[str, Client] = field(factory=dict)
    """What the kernel knows: address -> client."""
    now: float = 100.0
    port: int = 2000
    fold: Attempts = field(init=False)
    changed: list[BootAttempt] = field(factory=list)
    ended: list[BootAttempt] = field(factory=list)
    left: dict[str, TransferBegun] = field(factory=dict)
    """File -> a transfer that it has abandoned, and which the server does not know to be over."""
    settings: dict[str, float] = field(factory=dict)
    """Arguments of Attempts."""

    def __attrs_post_init__(self) -> None:
        self.fold = Attempts(WALL, lambda peer: self.clients.get(peer[0], Client(peer[0])), **self.settings)

    def add(self, event: Event) -> None:
        self.fold.add(event)
        self.settle()

    def settle(self) -> None:
        self.ended += self.fold.out
        self.fold.out.clear()

    def wait(self, seconds: float) -> None:
        """Nothing happens for *seconds*."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            self.fold.tick(self.now)
            self.changed += self.fold.changes()
            self.settle()

    @property
    def verdict(self) -> tuple[str, str]:
        """(verdict, key of the cause) of the only attempt that has ended, after a minute and a half of silence."""
        self.wait(90)
        ids = {attempt.id for attempt in self.ended}
        assert len(ids) == 1, self.ended
        last = self.ended[-1]
        return last.verdict.value, last.cause.key if last.cause else ""

    # DHCP

    def asks(self, phase: str = "discover", **changes: Any) -> BootRequest:
        request = evolve(self.request, phase=phase, **changes)
        self.add(RequestClassified(self.now, request))
        return request

    def is_offered(self, file: str | None = "boot.efi", address: str = "", message: str = "OFFER", **more: Any) -> None:
        phase = {"OFFER": "discover", "ACK": "request"}[message]
        request = evolve(self.request, phase=more.pop("phase", phase))
        named = BootFile(file, **more) if file is not None else None
        if named is not None:
            self.add(ResolverAnswered(self.now, request, "by-architecture", named, 0.0001))
        self.add(OfferMade(self.now, request, message, named, ("255.255.255.255", 68), address))

    def gets_address(self, file: str = "boot.efi", **more: Any) -> None:
        """The four messages of DHCP in server mode."""
        self.asks()
        self.is_offered(file, self.address, **more)
        self.wait(3)
        self.asks("request")
        self.is_offered(file, self.address, "ACK", **more)

    def gets_offer_and_nak(self, address: str) -> None:
        """It requests another address than it was offered."""
        self.asks()
        self.is_offered(address=self.address)
        self.asks("request")
        self.add(AddressRefused(self.now, address, self.request.mac))

    def gets_no_answer(self, reason: str) -> None:
        self.add(OfferWithheld(self.now, self.asks(), reason))

    def gets_no_file(self, reason: str) -> None:
        self.add(FileWithheld(self.now, self.asks(), reason))

    # Files

    def loads(
        self,
        file: str,
        outcome: Outcome = Outcome.COMPLETE,
        seconds: float = 0.5,
        size: int = 100_000,
        **report: Any,
    ) -> None:
        protocol = report.pop("protocol", "tftp")
        write = report.pop("write", False)
        tftp = protocol == "tftp"
        agreed = report.pop("agreed", Agreed(1468, 4, None, size, (("blksize", "1468"),)) if tftp else Agreed())
        begun = self._begins(file, agreed, protocol, write)
        self.wait(seconds)
        self._ends(begun, outcome, size, **report)

    def abandons(self, file: str, seconds: float = 0.1, size: int = 100_000) -> None:
        """It stops reading *file* by TFTP, and no packet says so."""
        agreed = Agreed(1468, 4, None, size, (("blksize", "1468"),))
        self.left[file] = self._begins(file, agreed, "tftp", False)
        self.wait(seconds)

    def times_out(self, file: str, seconds: float = 60.0, outcome: Outcome = Outcome.TIMED_OUT, **report: Any) -> None:
        """The server gives up a transfer that the client has abandoned."""
        self.wait(seconds)
        begun = self.left.pop(file)
        self._ends(begun, outcome, begun.agreed.tsize or 0, **report)

    def _begins(self, file: str, agreed: Agreed, protocol: str, write: bool) -> TransferBegun:
        self.port += 1
        peer: Address = (self.address, self.port)
        request = TransferRequest("/" + file, file, peer, SERVER, write, protocol=protocol)
        begun = TransferBegun(self.now, request, agreed)
        self.add(begun)
        return begun

    def _ends(self, begun: TransferBegun, outcome: Outcome, size: int, **report: Any) -> None:
        done = size if outcome in (Outcome.COMPLETE, Outcome.UNCONFIRMED) else 0
        values: dict[str, Any] = {
            "detail": "",
            "bytes_transferred": done,
            "blocks": done // 1468,
            "retransmitted": 0,
        }
        values |= report
        ended = TransferReport(begun.request, begun.agreed, outcome, began=begun.at, ended=self.now, **values)
        self.add(TransferEnded(self.now, ended))

    def probes_size(self, file: str) -> None:
        self.loads(file, Outcome.SIZE_PROBE, 0.01, detail="error 8: 'User aborted the transfer'")

    def misses(self, file: str, code: int = 1, message: str = "File not found", **more: Any) -> None:
        self.port += 1
        write, detail = more.pop("write", False), more.pop("detail", "")
        request = TransferRequest(file, file, (self.address, self.port), SERVER, write, **more)
        self.add(TransferRefused(self.now, request, code, message, detail))


def kinds(attempt: BootAttempt) -> list[str]:
    """The stages, with their counts where they were repeated."""
    return [f"{stage.kind.value}*{stage.count}" if stage.count > 1 else stage.kind.value for stage in attempt.stages]


def of_kind(attempt: BootAttempt, kind: StageKind) -> Any:
    """The data of the only stage of that kind."""
    (stage,) = [stage for stage in attempt.stages if stage.kind is kind]
    return stage.data
