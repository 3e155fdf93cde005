"""A machine that boots: it passes the events of its boot to an observer."""

from collections.abc import Callable

from attrs import define, evolve
from twisted.internet.task import Clock

from bootfw.events import Event, OfferMade, RequestClassified, TransferBegun, TransferEnded, TransferRefused
from bootfw.values import Agreed, BootFile, BootRequest, Outcome, TransferReport, TransferRequest

MAC = "52:54:00:12:34:56"
UEFI = BootRequest(MAC, "discover", "uefi", "x86_64-uefi", server="10.77.0.1", xid=7, options={55: b"\1\2"})


@define
class Machine:
    """One machine; *clock* has the times of its events."""

    observe: Callable[[Event], None]
    clock: Clock
    mac: str
    address: str

    def request(self, phase: str = "discover", ipxe: bool = False) -> BootRequest:
        request = evolve(UEFI, mac=self.mac, phase=phase, ipxe=ipxe)
        self.observe(RequestClassified(self.clock.seconds(), request))
        return request

    def get_address(self, file: str = "boot.efi", ipxe: bool = False) -> None:
        for phase, message in (("discover", "OFFER"), ("request", "ACK")):
            offer = OfferMade(
                self.clock.seconds(),
                self.request(phase, ipxe),
                message,
                BootFile(file),
                ("255.255.255.255", 68),
                self.address,
            )
            self.observe(offer)

    def load(self, file: str, completes: bool = True) -> None:
        now = self.clock.seconds()
        request = TransferRequest(file, file, (self.address, 2000), "10.77.0.1")
        self.observe(TransferBegun(now, request, Agreed()))
        if not completes:
            return
        report = TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1000, 2, 0, now, now)
        self.observe(TransferEnded(now, report))

    def request_missing_file(self, file: str) -> None:
        request = TransferRequest(file, file, (self.address, 2000), "10.77.0.1")
        self.observe(TransferRefused(self.clock.seconds(), request, 1, "File not found"))

    def boot(self) -> None:
        self.get_address()
        self.load("boot.efi")
        self.load("vmlinuz")
