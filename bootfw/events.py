"""The events that an IBootObserver receives, as values.

Events are about stages and transfers, never about single packets. ``at`` is seconds on the reactor's clock.
"""

from attrs import frozen

from bootfw.attempts.attempt import BootAttempt
from bootfw.lease import Lease
from bootfw.values import (
    Address,
    Agreed,
    BootFile,
    BootMenu,
    BootRequest,
    SocketStatus,
    TransferReport,
    TransferRequest,
)


@frozen
class Event:
    """The base of all events."""

    at: float


@frozen
class ListenerBound(Event):
    """A service can be reached; ``note`` says what an operator should know, such as a port chosen instead."""

    service: str
    """ "tftp", "dhcp", "boot-server", "http", "https" or "multicast"."""
    address: Address
    note: str = ""


@frozen
class ListenerFailed(Event):
    """A service can't be reached at this address; ``reason`` says why and, where known, which program has it."""

    service: str
    address: Address
    reason: str


@frozen
class ListenerClosed(Event):
    """A service has stopped listening."""

    service: str
    address: Address


@frozen
class SocketChanged(Event):
    """A wanted socket entered another state; one that is bound at the start is a ListenerBound only."""

    socket: SocketStatus
    was: str
    """The state before, see SocketStatus; "": the service starts."""


@frozen
class ReadinessChanged(Event):
    """Whether every wanted socket is bound, but for optional ones: at the end of a start, and when it changes."""

    ready: bool


@frozen
class WorkerLost(Event):
    """A worker process has ended without being stopped; another one is started instead."""

    worker: int
    """The number of the worker, from 0."""
    reason: str
    transfers: int
    """Number of its transfers. The new process continues each of them when the client sends its next packet."""


@frozen
class BackendProblem(Event):
    """A backend has nothing to serve, and reports why. It is still tried for every request."""

    backend: str
    problem: str


@frozen
class InterfaceProblem(Event):
    """An interface that the settings name does not exist, or requests that arrive on one they don't name are dropped.

    The second at the first such request on each interface; the processes that serve files report it each for itself.
    """

    interface: str
    problem: str


@frozen
class CertificateLoaded(Event):
    """HTTPS is served with the certificate at *path* from now on: at the start, and when it has been renewed."""

    path: str
    names: tuple[str, ...]
    """The host names and addresses that it is for."""
    ends: float
    """When it expires, in seconds since the epoch."""


@frozen
class CertificateProblem(Event):
    """Clients will refuse the certificate at *path*, or a renewed one can't be used and the old one stays in use."""

    path: str
    problem: str


@frozen
class HandshakeFailed(Event):
    """A client could not agree with us on TLS; at most one event a minute for each client and reason."""

    peer: Address
    reason: str


@frozen
class RequestClassified(Event):
    """A DHCP packet of a boot client was received; retransmissions count, too."""

    request: BootRequest


@frozen
class RequestIgnored(Event):
    """A DHCP packet is not answered. Not an error: most of these are from ordinary clients."""

    mac: str
    reason: str
    request: BootRequest | None = None
    """Of a boot client that the configuration gives no address. None: it does not boot, or there is another reason."""


@frozen
class ResolverAnswered(Event):
    """A resolver was called; ``answer`` None: the next one is called."""

    request: BootRequest
    resolver: str
    answer: BootFile | BootMenu | None
    seconds: float


@frozen
class ResolverPassedOver(Event):
    """A resolver was too slow; the next one was called."""

    request: BootRequest
    resolver: str
    seconds: float


@frozen
class ResolverUnavailable(Event):
    """A resolver could not decide, because a service that it depends on does not answer. The resolver logs what it did
    instead."""

    request: BootRequest
    resolver: str
    reason: str


@frozen
class PluginFailed(Event):
    """A plugin raised an exception that its interface does not allow; the service continued. ``traceback`` is for the
    log only."""

    plugin: str
    doing: str
    traceback: str
    mac: str = ""
    """MAC of the client that it was called for; "": there is none, or it is not known."""


@frozen
class InternalError(Event):
    """A bug of bootfw ended what ``doing`` names; the service continued. ``traceback`` is for the log only."""

    doing: str
    traceback: str


@frozen
class PluginBlocked(Event):
    """A call of a plugin blocked the reactor, so that nothing was answered meanwhile; at most one event a minute for
    each plugin."""

    plugin: str
    doing: str
    seconds: float


@frozen
class OfferMade(Event):
    """A reply was sent to a boot client: an OFFER or ACK, with or without the boot file."""

    request: BootRequest
    message: str
    """ "OFFER" or "ACK"."""
    file: BootFile | BootMenu | None
    """The boot file or menu in the reply; None: the client requests it from port 4011."""
    destination: Address
    address: str = ""
    """The address that it assigns; "": a proxy assigns none."""


@frozen
class OfferWithheld(Event):
    """A boot client gets no reply, for *reason*."""

    request: BootRequest
    reason: str


@frozen
class FileWithheld(Event):
    """A boot client gets an address but no boot file, for *reason*."""

    request: BootRequest
    reason: str


@frozen
class AddressesGranted(Event):
    """Clients got addresses that they did not have before, and the store has the leases. Renewals are left out.

    There are at most two a second, each with all since the last one.
    """

    leases: tuple[Lease, ...]


@frozen
class AddressReleased(Event):
    """A client released its address."""

    address: str
    mac: str


@frozen
class AddressRefused(Event):
    """A client requested an address that it can't have: it gets a NAK."""

    address: str
    mac: str


@frozen
class AddressTaken(Event):
    """A host without a lease uses an address of the pool, which is not offered for a while."""

    address: str
    mac: str
    """MAC of that host, or of the client that declined the address; "": not known, since the host answered a ping."""
    declined: bool
    """True: a client declined the address. False: a host answered the probe before the offer."""


@frozen
class ProxyARPSeen(Event):
    """Equipment answers ARP for each address that is probed; its answers are ignored from now on."""

    interface: str
    mac: str
    addresses: tuple[str, ...]
    """Addresses that counted as in use because of it."""


@frozen
class PoolExhausted(Event):
    """The pool has no address left for a client; at most one event a minute for each boot client, and for each network
    one for all others."""

    network: str
    mac: str
    request: BootRequest | None = None
    """The request of a boot client, which can't continue without an address. None: it is not a boot client."""


@frozen
class ClientsLimited(Event):
    """More unknown clients request addresses at once than get one; at most one event a minute for each network."""

    network: str


@frozen
class OtherServerSeen(Event):
    """Another DHCP server assigns addresses on a network of ours; at most one event in ten minutes for each server, and
    one a minute for each boot client of it."""

    server: str
    interface: str
    mac: str
    """Of the client that accepts its offer."""


@frozen
class OtherBootServerSeen(Event):
    """Another server replied to a boot client with a boot file or boot server: which one the client uses is chance.

    At most one event in ten seconds for each reply and client.
    """

    server: str
    interface: str
    mac: str
    """Of the client."""
    file: str
    """The boot file that it names; "": it sends the client to its port 4011."""


@frozen
class LeasesNotKept(Event):
    """The store failed: these clients are not answered."""

    count: int
    reason: str
    macs: tuple[str, ...] = ()
    """MACs of these clients, as far as they are known."""


@frozen
class LeasesKeptAgain(Event):
    """The store has taken leases, for the first time after a LeasesNotKept."""


@frozen
class LeadershipChanged(Event):
    """Of several servers that share a store, this one begins or ends to decide, or what it knows of the leader has
    changed."""

    state: str
    """"standby", "leading", "cut off", or "resigned" when a leader stops; see
    :class:`bootfw.leadershipstates.State`."""
    leader: str
    """Name of the leader as far as this server knows; "": there was none."""
    reason: str = ""
    """Why the store can't be reached, or its content can't be used; "": it can."""


@frozen
class NextBootTaken(Event):
    """A machine has loaded the file of its one-time boot, which is removed."""

    mac: str
    file: str
    """The file as given to ``bootfw next``."""


@frozen
class LoopBroken(Event):
    """A machine has booted the same files again and again, and boots its own disk for a while."""

    request: BootRequest
    files: tuple[str, ...]
    """What it got each time, in order."""
    times: int
    until: float
    """When it gets a boot file again."""


@frozen
class TransferBegun(Event):
    """A file was opened and the first reply sent."""

    request: TransferRequest
    agreed: Agreed
    etag: str = ""
    """The entity tag of the file, for the other nodes; "": there are none, or it has none."""
    acked: int | None = None
    """The block that the client has acknowledged, of a transfer that another node has begun; None: it begins here."""


@frozen
class TransferEnded(Event):
    """A transfer that had begun is over."""

    report: TransferReport


@frozen
class ImageSent(Event):
    """An image is no longer sent to many machines: no receiver has wanted it for a while, or *detail* says why."""

    image: str
    method: str
    """ "multicast", "broadcast" or "unicast"."""
    destination: Address
    """The group, the broadcast address or the receiver."""
    size: int
    """Bytes of the image."""
    joined: int
    """Receivers that have joined."""
    completed: int
    """Receivers that have said that they have all of it."""
    blocks_sent: int
    """Of 1,024 bytes."""
    blocks_lost: int
    """Blocks that receivers have requested again, counted for each receiver."""
    seconds: float
    """From the first JOIN to the end, with the idle time."""
    detail: str = ""
    """Why it was ended; "": it was idle."""


@frozen
class SecondStageFound(Event):
    """A client requested a file at a wrong path, and gets the one beside the boot program that it loaded last."""

    request: TransferRequest
    path: str
    """The path of the file that it gets."""


@frozen
class TransferRefused(Event):
    """A request was answered with an ERROR at once."""

    request: TransferRequest
    code: int
    """RFC 1350 error code, or HTTP status."""
    message: str
    detail: str = ""
    """What is wrong on the server, for the operator; "": the request is wrong."""
    persona: str = ""
    """Name of the persona whose quirks the answer followed; "": none."""


@frozen
class SystemUp(Event):
    """An installed system has requested the phone-home URL: it is up."""

    peer: Address
    mac: str
    """The MAC in the request; "": the request has none, and is from the machine at *peer*."""
    protocol: str


@frozen
class InstallationReported(Event):
    """The system that installs a machine has reported by HTTP how far it is, or why it has failed."""

    peer: Address
    mac: str
    """The MAC in the request; "": the request has none, and is from the machine at *peer*."""
    what: str
    """How far it is, or why it has failed, in words of the machine."""
    failed: bool = False


@frozen
class BootReported(Event):
    """By a protocol of a plugin, a machine has reported how far its boot is, or got the name of its boot file.

    It belongs to the boot record of the machine. Repetitions of a request that was lost are left out.
    """

    peer: Address
    mac: str
    """ "": it is that of the machine at *peer*."""
    protocol: str
    """Such as "bootinfo"."""
    what: str
    """Such as the state that it reports, or its boot file. The log and the boot record have it."""
    by_system: bool = False
    """The operating system has reported it, so it was booted."""


@frozen
class BootFileUsed(Event):
    """A machine uses the boot file that it got by a protocol of a plugin: the reply has arrived."""

    mac: str
    file: str
    """Name of the BootFile, as a resolver has returned it."""


@frozen
class BootAttemptChanged(Event):
    """A boot attempt has begun, or something was added to it; at most one event a second for each attempt."""

    attempt: BootAttempt


@frozen
class BootAttemptEnded(Event):
    """A boot attempt has a verdict. Another such event follows when the verdict improves: BOOTED to UP."""

    attempt: BootAttempt


@frozen
class DatagramsMalformed(Event):
    """Datagrams that could not be parsed; at most one event a second for each service."""

    service: str
    count: int
    """Since the last such event."""
    reason: str
    """Of the latest one."""
    peer: Address


@frozen
class StaleRequestsDropped(Event):
    """Requests that were dropped unread because they had waited too long: more arrive than can be answered. At most one
    event a second for each port."""

    service: str
    dropped: tuple[tuple[str, int], ...]
    """(kind of request, how many) since the last such event."""
    waited: float
    """Seconds that the latest ones had waited in the socket's buffer."""


@frozen
class RequestsDropped(Event):
    """Requests that were not answered because of a limit, or of [bootfw] allow and deny; at most one event in ten
    seconds for each service."""

    service: str
    count: int
    """Since the last such event."""
    reason: str
    """Of the latest one."""
    peer: Address


@frozen
class NeighbourTableFull(Event):
    """The kernel had no room for the hardware addresses of clients, so that what was sent to them was lost; at most one
    event in ten seconds. Another program may have filled the table, and it is one table for all of a host's network
    namespaces."""

    setting: str
    """The sysctl that limits the table, ``net.ipv4.neigh.default.gc_thresh3`` or that of IPv6."""
    most: int
    """Its value."""
    overflows: int
    """Entries that there was no room for, since the last such event or the start."""


@frozen
class DatagramsCounted(Event):
    """What has gone through the UDP ports of a service since the last such event; at most one a second for each."""

    service: str
    received: int
    sent: int
    send_errors: int
    """Datagrams that the kernel did not accept."""
    receive_errors: int
    """Errors that the socket reported instead of a datagram."""


@frozen
class EventsDropped(Event):
    """Observers could not keep up: *count* events were dropped."""

    count: int
