"""The contracts between bootfw and its plugins. No code.

A method that "may answer later" returns the value, or an awaitable of it: a Deferred, or the coroutine of an ``async
def``. All calls come from the reactor thread; none may block it.

An optional ability is an interface of its own that extends the basic one: IFileReader extends IReader. It is
declared with ``@implementer`` and verified. Such an interface makes a statement about methods of the interface that it
extends, its tagged value ``describes``: the bytes behind ``fileno()`` are those that ``read`` returns. So a subclass
that overrides one of these methods does not inherit the ability, and declares it again if it still holds: see
bootfw.ability.
"""

# zope.interface before 6 has no "|" for interfaces.
from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface, taggedValue
from zope.interface.interface import InterfaceClass

from bootfw.values import (
    Address,
    Agreed,
    BootFile,
    BootMenu,
    BootRequest,
    Client,
    Finding,
    ListedBootFile,
    PowerAction,
    PowerState,
    TransferRequest,
    Via,
)

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.defer import Deferred

    from bootfw.attempts.attempt import BootAttempt
    from bootfw.events import Event
    from bootfw.leadershipstates import Standing
    from bootfw.lease import Lease, Reservation
    from bootfw.plugins import PluginContext

# Readers.


class IReader(Interface):
    """One open file. A backend makes it for one transfer; its owner closes it exactly once."""

    size: int | None = Attribute(
        "Bytes in the file, or None when it can't be known: then a short read is the end of the file."
    )

    def read(offset: int, length: int) -> bytes | Awaitable[bytes]:
        """Up to *length* bytes from *offset* on; may answer later.

        Reads are by offset because a retransmission reads the same bytes again. Fewer bytes than requested mean the end
        of the file. At most one read is outstanding; there is none after close(). Returning bytes directly is the fast
        path.

        :raise OSError or TransferError: the transfer ends with an ERROR.
        """

    def close() -> None:
        """Release everything. Called exactly once, possibly while a read() is outstanding."""


class IFileReader(IReader):
    """A reader of bytes that are one run of an open file: they can be sent without read(), by sendfile and preadv."""

    taggedValue("describes", ("read", "fileno"))

    identity: Hashable | None = Attribute(
        "Differs whenever the content differs; readers with the same value share cached frames. None: not known."
    )
    start: int = Attribute("Offset in the descriptor's file where this one begins.")

    def fileno() -> int:
        """The descriptor, valid until close(); only read from, at any offset, never seeked."""


class IShareableReader(IReader):
    """A reader that several transfers can own. Requests that arrive in one batch have their file opened once."""

    taggedValue("describes", ("read",))

    def share() -> IReader:
        """A reader of the same open file for one more owner; may be this one. Each owner calls close() once."""


class ICacheableReader(IReader):
    """A reader that distinguishes versions of a file: downloads resume, transfers go on in another process."""

    taggedValue("describes", ("read",))

    etag: str | None = Attribute(
        "ASCII without blanks and quotes; differs whenever the content differs. None: computed of modified and size."
    )
    modified: float | None = Attribute("When the content was last changed, seconds since the epoch; None: not known.")
    changed: float | None = Attribute(
        "When the content, or which file this is, was last changed, seconds since the epoch. None: not known, and a"
        " transfer can't be continued by another process."
    )


class IVerifiableReader(IReader):
    """A reader that notices when the file is overwritten while it is being sent."""

    taggedValue("describes", ("read",))

    def verify() -> None:
        """Called before the last bytes of a response or of a cached frame leave. read() of the end does the same.

        :raise TransferError: the content has changed since the file was opened.
        """


class IComparingReader(IVerifiableReader):
    """A reader whose verify() compares parts of the file with what was sent of it."""

    taggedValue("describes", ("read", "fileno"))

    def remember(offset: int, data: bytes | memoryview) -> None:
        """Called with some of what was read of the descriptor without read()."""


class IWriter(Interface):
    """One file being uploaded. Nothing of it is visible under its name until finish()."""

    def write(offset: int, data: bytes) -> Awaitable[object] | None:
        """Store *data* at *offset*; may answer later. Calls come in file order without gaps, one at a time.

        The block is acknowledged to the client when this has answered, not before.

        :raise OSError or TransferError: the upload ends with an ERROR (ENOSPC, EDQUOT, EFBIG: code 3), then cancel().
        """

    def finish() -> Awaitable[object] | None:
        """The upload is complete: make it durable and visible; may answer later. The last ACK waits for it.

        Called at most once; when it has answered, nothing more is called.
        """

    def cancel() -> None:
        """Discard the upload and leave nothing behind.

        Called at most once, possibly while write() or finish() is outstanding, and after either has failed.
        """


# Backends.


class IBackend(Interface):
    """A source of files. Backends are tried in the order of the configuration."""

    def open(path: str, request: TransferRequest) -> IReader | Awaitable[IReader]:
        """A reader of *path*; may answer later.

        :param path: ``TransferRequest.path``: relative, ``/`` only. ``..`` must stop at the backend's root.
        :raise FileMissing: not here; the next backend is tried, and after the last one the client gets ERROR 1.
        :raise TransferError: stop here; the client gets its code. Any other exception: ERROR 0 without details,
            and the log gets the traceback.
        """


class IWritableBackend(IBackend):
    """A backend that takes uploads too."""

    def create(path: str, request: TransferRequest) -> IWriter | Awaitable[IWriter]:
        """A writer of a new file; may answer later. ``request.options`` may hold the announced tsize.

        :raise FileMissing: not here; the next writable backend is tried.
        :raise FileAlreadyExists, AccessViolation, DiskFull: the client gets the code.
        """


class IReplacingBackend(IWritableBackend):
    """A backend that can put an uploaded file in the place of one with its name, as frisbee's master server does."""

    taggedValue("describes", ("create",))

    def replace(path: str, request: TransferRequest) -> IWriter | Awaitable[IWriter]:
        """As create(), for a file that may exist: its finish() replaces it at once, and until then it is as it was.

        ``request.options`` may hold ``tsize`` as for create(), and ``mtime``: when the content was last changed, in
        seconds since the epoch, which readers of the file then have as ``modified``.

        :raise FileAlreadyExists: what has the name is no file.
        """


class IUniformBackend(IBackend):
    """A backend that gives every client the same file: open() depends on path and ``request.ignore_case`` only.

    For requests that arrive in one batch it is then called once for a missing path, and once for a file whose reader is
    an IShareableReader.
    """

    taggedValue("describes", ("open",))


class IVersionedBackend(IBackend):
    """A backend that knows the version of a file at less cost than by opening it. A small file by HTTP is then opened
    and read once for each version, not once for each request.
    """

    taggedValue("describes", ("open",))

    def version(path: str, request: TransferRequest) -> Hashable | None:
        """The ``identity`` (see IFileReader) of the reader that open() would return now; None: only open() knows it.

        :raise FileMissing: open() would raise it now.
        """


class IPerClientBackend(IBackend):
    """A backend whose files depend on the client: ``client`` and ``http_url`` of its requests are filled in.

    It can't be an IUniformBackend as well. If it has files for installed systems, which request no boot file by
    DHCP, its attribute ``for_systems`` is true: each process that serves files gets to know their leases then.
    """


class IStaticBackend(IUniformBackend):
    """A uniform backend whose files can be read without a server: ``bootfw lint`` reads them.

    Where the PluginContext has no reactor (None), open() and the methods of its readers return their results directly.
    """

    taggedValue("describes", ("open",))


class IDirectoryBackend(IStaticBackend):
    """A static backend that serves the files of one directory of this host under their own paths.

    ``bootfw lint`` walks that directory, and checks links, permissions and the spelling of names there.
    """

    taggedValue("describes", ("open",))

    root: Path = Attribute("The directory. It need not exist.")


class IListableBackend(IBackend):
    """A backend whose files can be listed without a client: at the start, by --check and by lint. It may block."""

    taggedValue("describes", ("open",))

    def has(path: str) -> bool:
        """Whether open() may find *path*."""

    def names() -> Iterable[str]:
        """Paths of files that can be fetched, the best example first; not all of them need be listed."""


class IHostBackend(IBackend):
    """A backend with host files: the site's values for some machines."""

    def host(mac: str, uuid: str) -> Mapping[str, object]:
        """The values for a machine, with its ``name``; empty for a machine without a host file.

        Called in a thread, with what is known of the machine, each "" if it is not: it may read the disk. The operator
        sees ``name`` and ``image``, and no other value.
        """


class IImageBackend(IBackend):
    """A backend with images of operating systems, which ``bootfw install`` can boot by their names."""

    def image_names() -> Sequence[str]:
        """The names of the images that are there now. Called in a thread: it may read the disk."""


class IBatchingBackend(IBackend):
    """Several backends as one. It is called around the requests that arrived in one batch, to share lookups."""

    taggedValue("describes", ("open",))

    def begin_batch() -> None:
        """The requests that follow arrived before any of them was answered, so results may be shared."""

    def end_batch() -> None:
        """The batch is over: forget what was shared."""

    def pending_backend(answer: Awaitable[object]) -> str:
        """The name of the backend that *answer*, a result of open() or create(), waits for; for log lines."""


class ISelfChecking(Interface):
    """A backend or resolver that can find out before the first request that it can't serve anything."""

    def problem() -> str:
        """The problem, in a sentence, such as a missing directory; "": there is none.

        Called at the start, by --check and by lint. The operator sees it; the server starts all the same.
        """


class ILintable(Interface):
    """A backend or resolver that checks the files it works from, such as templates, for ``bootfw lint``."""

    def lint() -> Iterable[Finding]:
        """The mistakes in these files. It may block; no server runs."""


# Power.


class IPower(Interface):
    """The power of one machine, which its management controller switches.

    Its options are the table ``power`` of the machine's host file. The methods block: they are called in threads, never
    in that of the reactor, and one at a time for each object.
    """

    def state() -> PowerState:
        """Whether the machine is on.

        :raise PowerError: it can't be read.
        """

    def switch(action: PowerAction) -> None:
        """Have the controller do it. It returns when the controller has accepted the action, which the machine may
        take seconds for.

        :raise PowerError: it can't be done.
        """

    def boot_from_network() -> None:
        """Have the next start of the machine boot from the network, whatever its boot order, and no later one.

        :raise PowerError: it can't be done.
        """


# Resolvers.


class IBootFileResolver(Interface):
    """Decides what a client loads. Resolvers are called in the order of the configuration."""

    def resolve(request: BootRequest) -> BootFile | BootMenu | Awaitable[BootFile | BootMenu | None] | None:
        """What the client boots, or None: the next resolver is called; may answer later.

        A BootMenu is for firmware that can show one; for other clients the next resolver is called. When the client
        requests the item that was picked, the result has to have that item again.

        There is a deadline, because the firmware is waiting. A later result is discarded, the Deferred is cancelled,
        and the next resolver is called.

        :raise BootRefused: stop: this client gets no answer from us.
        """


class IUniformResolver(IBootFileResolver):
    """A resolver that answers by ``architecture``, ``ipxe`` and ``http`` of the request only, and directly.

    --check and lint call resolve() without a client, to find architectures whose clients load iPXE and nothing else.
    """

    taggedValue("describes", ("resolve",))


class ISelectiveResolver(IBootFileResolver):
    """A resolver that answers for selected clients only: those that its options, an operator or an API select. For the
    other clients the other resolvers decide.
    """

    taggedValue("describes", ("resolve",))


class IListableResolver(IBootFileResolver):
    """A resolver whose options name boot files: lint checks that they exist and fit the client's architecture."""

    taggedValue("describes", ("resolve",))

    def boot_files() -> Iterable[ListedBootFile]:
        """These files. Placeholders in their names are not filled in."""


class IStartable(Interface):
    """A resolver, a backend or an observer that is called when the service starts and stops.

    (A resolver may be an IBootObserver as well: it then gets the events, as if it were configured as an observer.)
    """

    def start(publish: Callable[[Event], None]) -> None:
        """The service is about to start: called before any port is open, and once more after each close().

        :param publish: sends an event to the observers; never blocks, never raises.
        :raise StateError: stored state can't be read; the service does not start.
        """

    def close() -> Awaitable[object] | None:
        """The service stops; may answer later. Called once after each start() that has returned."""


class IOperable(Interface):
    """A resolver that the operator can query while it runs."""

    def operations() -> Mapping[str, Callable[[Mapping[str, object]], object]]:
        """Commands of the control socket (bootfw/net/control.py): name -> callable.

        The callable gets the command's arguments, a mapping of JSON values, and returns an iterable of records, each a
        mapping of JSON values, or a Deferred of one. Names are shared by all plugins.
        """


class IStandbyOperable(IOperable):
    """A resolver that the operator can query also while another server decides, and its start() is not called."""

    def standby_operations() -> Mapping[str, Callable[[Mapping[str, object]], object]]:
        """Commands in place of those of operations() with the same names; the others are refused meanwhile."""


# Watchdogs.


class IWatchdog(Interface):
    """The waits of one transfer. It only computes: no timer, no session.

    An IAdaptiveWatchdog does not keep to a timeout that the client requests, any other does: see ITimeoutWatchdog.
    """

    def wait(attempt: int) -> float | None:
        """Seconds to wait for an answer to a packet, or None: give up now.

        :param attempt: how often this packet has been sent without an answer: 1 after it was sent first, 2 after its
            first retransmission, and so on; 1 again after progress. ``wait(1)`` is never None.
        """


class IAdaptiveWatchdog(IWatchdog):
    """A watchdog that learns from round trips."""

    def progressed(seconds: float | None) -> None:
        """The peer has answered with progress.

        :param seconds: the round trip, or None when it can't be measured because the packet had been sent more than
            once (Karn's rule, RFC 6298 section 3).
        """


class ILearningWatchdog(IAdaptiveWatchdog):
    """A watchdog that need not learn from every round trip. Transfers cost less, on the fast path most of all.

    Round trips within these two bounds change ``wait(1)`` little or not at all: progressed() is not called for them.
    Both may change with each call of progressed().
    """

    taggedValue("describes", ("wait", "progressed"))

    unremarkable_from: float = Attribute("The lower bound, in seconds.")
    unremarkable: float = Attribute("The upper bound, in seconds.")


class ITimeoutWatchdog(IWatchdog):
    """A watchdog that says whether it keeps to the timeout that a client requests (RFC 2349)."""

    taggedValue("describes", ("wait",))

    honours_timeout: bool = Attribute(
        "Each wait is ``agreed.timeout`` seconds, as such a client expects. False: the option is not acknowledged."
    )


class IWatchdogPolicy(Interface):
    """Makes watchdogs. The wait after the last packet is part of the policy, like any other."""

    def begin(agreed: Agreed) -> IWatchdog:
        """A watchdog for one transfer. The sum of its waits must be finite.

        :param agreed: what was negotiated; ``agreed.timeout`` is what the client requests.
        """


# Leases.


class IReservationStore(Interface):
    """Stores reservations durably: those that are made while the server runs, not those of the configuration."""

    def reservations() -> Iterable[Reservation]:
        """The last argument of save_reservations(). May block; called after load()."""

    def save_reservations(reservations: Sequence[Reservation]) -> Deferred[None]:
        """Keep *reservations* in place of all earlier ones. The Deferred fires as that of commit()."""


class ILeaseStore(Interface):
    """Stores leases durably. A server has one lease store, and one process uses it at a time.

    A store provides IReservationStore too, and may be an IOrderStore and an IOfflineStore.
    """

    def load() -> Iterable[Lease]:
        """Every lease that was committed, the latest of each address, in any order.

        Called first, before any port is open, so it may block; and once more after each close(). The iterable is
        used up before anything else is called.

        :raise StateError: the content can't be read, or another process uses it. It is never repaired or replaced
            silently: a server that has forgotten its leases gives addresses twice.
        """

    def commit(leases: Sequence[Lease]) -> Deferred[None]:
        """Keep *leases*. The Deferred fires with None when all of them are durable.

        No client gets its lease before that, so it has to be soon; calls do not wait for each other and are best made
        durable together. They take effect in the order of the calls: a later lease of an address replaces an earlier
        one, also within one call.

        :raise StateError: the Deferred fails with it. These leases may or may not be stored; the store stays usable.
        """

    def close() -> Deferred[None]:
        """Release everything. The Deferred fires when all that was committed is durable or has failed.

        Called once after each load(), also after one that failed; nothing is called after it but load().
        """


class IOfflineStore(ILeaseStore):
    """A lease store that the ``bootfw`` command can read and change while no server runs.

    It is then made without a reactor (``PluginContext.reactor`` is None): every method may block, and the Deferreds
    that it returns have fired.
    """

    def exists() -> bool:
        """Whether there is anything to load; otherwise load() makes an empty store."""


class IOrderStore(Interface):
    """Stores orders durably: the file that a machine boots next, that it boots its own disk for a while, or the entry
    with its name, tags and image.

    An order is a mapping of JSON values, stored by the MAC of its machine. There are several kinds of orders, and each
    kind has one user, such as the resolver ``next-boot``.
    """

    def load_orders(kind: str) -> Mapping[str, Mapping[str, object]]:
        """The orders of that kind, by MAC.

        Called before any port is open, so it may block; and once more after each close_orders().

        :raise StateError: they can't be read, or another process uses them.
        """

    def save_orders(kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> Deferred[None]:
        """Keep *orders* in place of earlier ones for the same machines; None removes one. Others stay.

        The Deferred fires with None when that is durable. Calls take effect in their order. One may come after
        close_orders(), with what happened while everything ended: it is durable when the call returns, or when the
        store is closed by the last of its users.

        :raise StateError: the Deferred fails with it.
        """

    def close_orders(kind: str) -> Deferred[None]:
        """Release what load_orders() has taken. The Deferred fires when all that was saved is durable or has failed."""


class IAttemptStore(Interface):
    """Stores boot attempts durably, bounded in number and age. No boot waits for it."""

    def save_attempts(attempts: Sequence[BootAttempt], keep: int, since: float) -> Deferred[None]:
        """Keep *attempts* in place of earlier ones with the same id. The Deferred fires with None when they are stored.

        Beyond the latest *keep* attempts, and those that began before *since*, in seconds since the epoch, all may be
        dropped. Calls take effect in their order. The first call, also after close_attempts(), opens what is needed,
        and may block.

        :raise StateError: the Deferred fails with it; the store is usable.
        """

    def find_attempts(
        machine: str = "", verdict: str = "", since: float = 0.0, before: float = 0.0, limit: int = 100
    ) -> Deferred[Sequence[BootAttempt]]:
        """The latest attempts, the latest first, with all that was saved before this call.

        :param machine: those whose ``client`` it is, which is a MAC where one is known; "": of all.
        :param verdict: value of a :class:`bootfw.attempts.attempt.Verdict`; "": any.
        :param since: began then or later, in seconds since the epoch.
        :param before: began earlier than that; 0: at any time.
        :raise StateError: the Deferred fails with it.
        """

    def close_attempts() -> Deferred[None]:
        """Release everything. The Deferred fires when all that was saved is stored or has failed."""


class INodes(Interface):
    """Carries announcements between the servers that share a store; each of them is a node.

    Only a store that several servers can reach provides it. An announcement is a hint, such as how far a transfer is:
    one may be lost or arrive twice, and nothing waits for it.
    """

    behind: float | None = Attribute(
        "Seconds since an announcement of this node got through to the store; None: none has since join_nodes()."
    )

    def join_nodes(receive: Callable[[str, Sequence[object]], None]) -> Callable[[], Deferred[None]]:
        """Take part. Does not block; while the others can't be reached, it tries by itself.

        :param receive: called in the reactor's thread with (kind, values) of each announcement of another node; those
            of one node come in their order.
        :return: a function to leave. Nothing is received after its call; its Deferred fires when what was announced is
            sent or dropped. Then the node can join again.
        """

    def announce(kind: str, *values: object) -> None:
        """Send JSON values to all other nodes. Returns at once; announcements that wait are sent together.

        They are dropped while the others can't be reached, and before it has joined and after it has left.

        :raise ValueError: they are longer than the store can carry; 7,000 bytes of JSON always fit.
        """


class ILeadership(Interface):
    """Chooses the leader among the servers that share a store: the one that gives addresses and chooses boot files.

    Each of them is a node. Only a store that several servers can reach provides it; a server whose store does not is
    alone, and always leads. Leases, reservations and orders that a node writes are refused with a StateError while
    another one leads, and from the moment on when another one begins to lead: it then knows all that was written.
    """

    def stand(node: str, silent: Standing | None) -> Deferred[Standing]:
        """Become the leader if there is none; if this node leads already, confirm that.

        Called a few times a second, and not again before it has answered. It answers within seconds, also if what
        keeps the store does not.

        :param node: name of this node, for the operator.
        :param silent: an earlier answer. The leader has not confirmed its leadership for so long after it that it has
            stopped to decide: take its place if it still has not.
        :raise StateError: the Deferred fails with it: the store can't be reached. This node may still lead.
        """

    def prepare() -> Deferred[None]:
        """Read what the next load(), reservations() and load_orders() return, so that these do not block.

        Called after stand() has answered that this node leads.

        :raise StateError: the Deferred fails with it.
        """

    def resign() -> Deferred[None]:
        """Stand no more, until the next stand(). If this node leads, another one may lead at once.

        Called after the leases and the orders are closed. The Deferred fires when everything is released.
        """


class IReadableStore(Interface):
    """Reads what is stored while another server uses the store: a standby lists it for its operator.

    A store that provides ILeadership may provide it; without it a standby does not list leases, reservations and
    orders. It may be called at any time. Each Deferred fires within seconds, or fails with a StateError: the store
    can't be reached.
    """

    def read_leases() -> Deferred[Iterable[Lease]]:
        """Every lease that was committed, the latest of each address, in any order."""

    def read_reservations() -> Deferred[Iterable[Reservation]]:
        """See IReservationStore.reservations()."""

    def read_orders(kind: str) -> Deferred[Mapping[str, Mapping[str, object]]]:
        """The orders of that kind, by MAC."""


# Observers.


class IBootObserver(Interface):
    """Receives the events."""

    def observe(event: Event) -> None:
        """One of the values of bootfw.events. Called in a later reactor turn, in order; must not block.

        What it raises is logged, and it stays registered.
        """


class IClientAware(Interface):
    """An observer or resolver that needs to know which client is at an address, such as the peer of a transfer."""

    def set_client_lookup(lookup: Callable[[Address], Client]) -> None:
        """Called once, before start() and before the first event.

        :param lookup: returns the client at an address, in the reactor's thread; all but its address may be empty. It
            costs a system call, so it is not for every event.
        """


class IChainAware(Interface):
    """A resolver that answers clients by a protocol of its own too, with what the resolvers have for them.

    With one, the resolvers are started even if DHCP is off. It opens its sockets in start() of IStartable, of several
    servers with one store on the leader only. Its protocol is the ``phase`` of its requests, by which it knows them
    in its own resolve(), and the one-time boots that are for it: "bootinfo:wait" is for the phase "bootinfo".
    """

    def set_resolver_chain(
        resolve: Callable[[BootRequest], BootFile | Deferred[BootFile | None] | None],
    ) -> None:
        """Called once, before start().

        :param resolve: calls the resolvers in their order, this one among them, as for a DHCP request: with the limit
            on their time, and with events for the boot record. Returns the first BootFile whose name begins with the
            phase and a colon, None if there is none, or a Deferred. It raises BootRefused, and the Deferred fails with
            it, if a resolver refuses, or those that answered have no such file.
        """


class IBatchObserver(IBootObserver):
    """An observer that takes all events of one reactor turn together, for instance to write them in one call."""

    taggedValue("describes", ("observe",))

    def observe_many(events: Sequence[Event]) -> None:
        """These events, in order. Called in place of observe()."""


# Plugins.


class IBootPlugin(Interface):
    """A factory of plugin objects, which a name in the configuration refers to. Usually made by
    ``bootfw.api.boot_plugin``."""

    provides: InterfaceClass = Attribute("The interface that configure()'s result provides, such as IBackend.")
    summary: str = Attribute("One line for --list-plugins.")

    def configure(options: Mapping[str, object], context: PluginContext) -> object:
        """The configured object. *options* is the plugin's own table without ``use``; no I/O happens here.

        :raise ConfigError: with the path below the table, such as ``("files", "x86-bios")``.
        """


# Datagram ports.


class IBatchReceiver(Interface):
    """A DatagramProtocol that takes all datagrams of one wake-up in one call, where the port can do so."""

    def datagrams_received(batch: Sequence[tuple[bytes, Address, Via]]) -> None:
        """*batch*: (data, peer, how it arrived) of each."""


class IViaTransport(Interface):
    """A datagram transport that can choose source address and interface of a reply, such as bootfw's own port."""

    def write_via(data: bytes | memoryview, peer: Address, via: Via | None, segment: int = 0) -> None:
        """Send from ``via.local`` on ``via.interface`` to *peer*. A datagram that the kernel refuses is dropped; no
        exception is raised.

        :param data: with *segment* > 0 a run of datagrams of that many bytes each; the last may be shorter.
        :param via: None: the kernel chooses.
        :raise InvalidAddressError: *peer* is no numeric address of the port's family.
        """
