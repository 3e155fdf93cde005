"""What happened, as values: everything an IBootObserver is told.

Events are about stages and transfers, never about single packets. ``at`` is seconds on the reactor's clock.
"""

from attrs import frozen

from bootfw.values import Address, Agreed, BootFile, BootRequest, TransferReport, TransferRequest


@frozen
class Event:
    """The common part."""

    at: float


@frozen
class ListenerBound(Event):
    """A service can be reached; ``note`` says what an operator should know, such as a port chosen instead."""

    service: str
    """ "tftp", "dhcp", "boot-server" or "http"."""
    address: Address
    note: str = ""


@frozen
class ListenerFailed(Event):
    """A service can't be reached at this address; ``reason`` says why and, where known, who holds it."""

    service: str
    address: Address
    reason: str


@frozen
class ListenerClosed(Event):
    """A service has stopped listening."""

    service: str
    address: Address


@frozen
class BackendProblem(Event):
    """A backend has nothing to serve, and says why; it is asked all the same."""

    backend: str
    problem: str


@frozen
class RequestClassified(Event):
    """A DHCP packet is a boot client's; once per stage, retransmissions included."""

    request: BootRequest


@frozen
class RequestIgnored(Event):
    """A DHCP packet is not ours to answer. Not an error: most of these are ordinary clients."""

    mac: str
    reason: str


@frozen
class ResolverAnswered(Event):
    """A resolver was asked; ``answer`` None means "not mine"."""

    request: BootRequest
    resolver: str
    answer: BootFile | None
    seconds: float


@frozen
class ResolverPassedOver(Event):
    """A resolver was too slow; the next one was asked."""

    request: BootRequest
    resolver: str
    seconds: float


@frozen
class PluginFailed(Event):
    """A plugin raised what it should not; the service went on. ``traceback`` is for the log only."""

    plugin: str
    doing: str
    traceback: str


@frozen
class OfferMade(Event):
    """A reply left for the client: an OFFER or ACK, with or without the file in it."""

    request: BootRequest
    message: str
    """ "OFFER" or "ACK"."""
    file: BootFile | None
    """None: the client is sent on to port 4011 for it."""
    destination: Address


@frozen
class OfferWithheld(Event):
    """A boot client is not answered, and why."""

    request: BootRequest
    reason: str


@frozen
class TransferBegun(Event):
    """A file was opened and the first reply sent."""

    request: TransferRequest
    agreed: Agreed


@frozen
class TransferEnded(Event):
    """A transfer that had begun is over."""

    report: TransferReport


@frozen
class TransferRefused(Event):
    """A request was answered with an ERROR at once."""

    request: TransferRequest
    code: int
    """RFC 1350 error code, or HTTP status."""
    message: str


@frozen
class DatagramsMalformed(Event):
    """Datagrams nobody could parse; at most one event a second for each service."""

    service: str
    count: int
    """Since the last such event."""
    reason: str
    """Of the latest one."""
    peer: Address


@frozen
class EventsDropped(Event):
    """Observers could not keep up: *count* events were thrown away."""

    count: int
