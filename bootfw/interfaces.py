"""The contracts between bootfw and its plugins. No code.

Methods that may "answer later" may return the value, a Deferred of it, or be ``async def``.
All calls come from the reactor thread; none may block it.

Attributes that only some plugins have, such as ``same_for_all`` or ``fileno``, say something about a method. They count
where the class that declares them defines that method too, or inherits it: a subclass that overrides the method
declares them again if they still hold.
"""

from typing import Any

from zope.interface import Attribute, Interface


class IReader(Interface):
    """One open file. Made by a backend for one transfer; closed exactly once by its owner.

    It may have two more attributes, which let an HTTP client go on after an interruption: ``modified``, when the file
    was last changed, in seconds since the epoch, and ``etag``, ASCII without blanks and quotes that is another one
    whenever the content is. Without an etag one is made of ``modified`` and ``size``.

    With ``changed``, the time of the latest change of the content or of what file it is, a transfer can be gone on with
    by another process when its own has ended.

    And two that let transfers of the same file share what has been read: ``fileno()``, a descriptor to read from at any
    offset, which also is what HTTP needs to send the file without reading it (sendfile), and ``identity``, hashable,
    another one whenever the content is, or None when that is not sure. Where the file begins at another octet of the
    descriptor than the first, ``start`` says at which.

    And ``verify()``, which raises TransferError when the content has changed since the file was opened. It is called
    before the last bytes of an HTTP response or of a framed file leave; ``read`` of the end of the file does the same.

    And ``remember(offset, data)``, for a verify() that compares: called with some of what was read of the descriptor
    without ``read``.

    And ``share()``: an IReader of the same open file for one more owner, which may be this one; close() is then called
    once by each. Where there is it, requests that have arrived together have their file opened once.
    """

    size: int | None = Attribute(
        "Octets in the file, or None when it can't be known: then a short read is the end of the file."
    )

    def read(offset: int, length: int) -> Any:
        """Up to *length* octets from *offset* on; may answer later.

        Asked by offset because a retransmission asks for the same place again. Fewer octets than asked mean
        the end of the file. Called with one read outstanding at most; never after close().
        Returning bytes directly is the fast path.

        :raise OSError or TransferError: the transfer ends with an ERROR.
        """

    def close() -> None:
        """Give everything back. Called exactly once, also when a late answer to read() is outstanding."""


class IWriter(Interface):
    """One file being uploaded. Nothing of it is visible under its name until finish()."""

    def write(offset: int, data: bytes) -> Any:
        """Store *data* at *offset*; may answer later. Calls come in file order without gaps, one at a time.

        The block is acknowledged to the client when this has answered, not before.

        :raise OSError or TransferError: the upload ends with an ERROR (ENOSPC, EDQUOT, EFBIG: code 3), then cancel().
        """

    def finish() -> Any:
        """The upload is complete: make it durable and visible; may answer later. The last ACK waits for it.

        Called at most once; when it has answered, nothing more is called.
        """

    def cancel() -> None:
        """Forget the upload and leave nothing behind.

        Called at most once, also while an answer of write() or finish() is outstanding, and when either has failed.
        """


class IBackend(Interface):
    """Where files come from. Several are asked in the order of the configuration.

    A backend may have a method ``problem() -> str`` as well: asked once at the start, it says in a sentence what keeps
    it from serving anything, such as a directory that is not there; "" when all is well. It is shown, and is no error.

    It may have an attribute ``same_for_all``, True: what it answers depends on the path, and on the request's
    ``ignore_case``, not on who asks. Requests that have arrived together then make it be asked once for what it lacks,
    and for a file whose reader can be shared.
    """

    def open(path: str, request: Any) -> Any:
        """An IReader for *path*; may answer later.

        :param path: ``TransferRequest.path``: relative, ``/`` only. ``..`` must stop at the backend's root.
        :param request: the TransferRequest, for backends that decide by who asks.
        :raise FileMissing: not mine; the next backend is asked, and after the last one the client gets ERROR 1.
        :raise TransferError: stop here; the client gets its code. Any other exception: ERROR 0 without details,
            and the log gets the traceback.
        """


class IWritableBackend(IBackend):
    """A backend that takes uploads too."""

    def create(path: str, request: Any) -> Any:
        """An IWriter for a new file; may answer later. ``request.options`` may hold the announced tsize.

        :raise FileMissing: not mine; the next writable backend is asked.
        :raise FileAlreadyExists, AccessViolation, DiskFull: the client gets the code.
        """


class IBootFileResolver(Interface):
    """Decides what a client loads. Several are asked in the order of the configuration."""

    def resolve(request: Any) -> Any:
        """A BootFile for this BootRequest, or None: "not mine, ask the next"; may answer later.

        A BootMenu is an answer too, for firmware that can show one; for others the next resolver is asked. When the
        client asks for the item that was picked, its answer has to have that item again.

        There is a deadline: the firmware is waiting. An answer later than that is thrown away, the Deferred is
        cancelled, and the next resolver is asked.

        :raise BootRefused: stop: this client gets nothing from us.
        """


class IStartable(Interface):
    """A resolver or a backend may provide this as well, to do something when the service starts and stops.

    (And a resolver may be an IBootObserver: then it is told what happened, as if the configuration named it as one.)
    """

    def start(publish: Any) -> None:
        """The service is about to start: called before any port is open, and once more after each close().

        :param publish: takes an Event, for the observers; never blocks, never raises.
        :raise StateError: what has been kept can't be read; the service does not start.
        """

    def close() -> Any:
        """The service stops; may answer later. Called once after each start() that has returned."""


class IOperable(Interface):
    """A resolver may provide this as well, to be asked by the operator while it runs."""

    def operations() -> Any:
        """What may be asked on the control socket (bootfw/net/control.py): name -> callable.

        It is given what came with the question, a mapping of JSON values, and gives back an iterable of records, each a
        mapping of JSON values; or a Deferred of one. Names are shared by all who answer there.
        """


class IWatchdog(Interface):
    """The waits of one transfer. It only computes: no timer, no session."""

    def wait(attempt: int) -> float | None:
        """Seconds to wait for an answer to a sending, or None: give up now.

        :param attempt: how often this has been sent without an answer: 1 after the first sending, 2 after the first
            retransmission, and so on; 1 again after progress. ``wait(1)`` is never None.
        """

    # It may have an attribute ``unremarkable``: seconds up to which a round trip changes little or nothing of
    # ``wait(1)``. It is not told of such, nor asked after it, and transfers cost less. Without one, of all. With an
    # attribute ``unremarkable_from``, shorter ones than that are to be told as well.

    # It may have an attribute ``honours_timeout``: whether it waits ``agreed.timeout`` seconds each time, as a client
    # that requests a timeout expects. If not, that option is left out of the OACK, as RFC 2349 allows. Without the
    # attribute an IAdaptiveWatchdog does not honour it, and any other does.


class IAdaptiveWatchdog(IWatchdog):
    """A watchdog that measures round trips, and waits accordingly."""

    def progressed(seconds: float | None) -> None:
        """The peer has answered with progress.

        :param seconds: between sending and answer, or None when that can't be told because the datagram had been
            sent more than once (Karn's rule, RFC 6298 section 3).
        """


class IWatchdogPolicy(Interface):
    """Makes watchdogs. The wait after the last sending is part of the policy: the session holds it like any other."""

    def begin(agreed: Any) -> IWatchdog:
        """A watchdog for one transfer. *agreed* is its Agreed; ``agreed.timeout`` is what the client requests.

        It is acknowledged if the watchdog honours it: see IWatchdog. The sum of the waits must be finite.
        """


class ILeaseStore(Interface):
    """Where leases outlive the process. There is one for a server, and one process uses it at a time.

    A store provides IReservationStore too.
    """

    def load() -> Any:
        """Every lease that was committed, the latest of each address, as an iterable of Lease in any order.

        Called first, before any port is open, so it may block; and once more after each close(). The iterable is
        used up before anything else is called.

        :raise LeaseStoreError: what is there can't be read, or another process uses it. It is never repaired or
            begun anew without a word: a server that has forgotten its leases gives addresses twice.
        """

    def commit(leases: Any) -> Any:
        """Keep *leases*, a sequence of Lease. A Deferred that fires with None when all of them are durable.

        No client hears of its lease before that, so it has to be soon; calls do not wait for each other and are best
        made durable together. They take effect in the order of the calls: a later lease of an address replaces an
        earlier one, also within one call.

        :raise LeaseStoreError: the Deferred fails with it; these leases may have been kept or not, and the next call
            is as good as any.
        """

    def close() -> Any:
        """Give everything back. A Deferred that fires when all that was committed is durable or has failed.

        Called once after each load(), also after one that failed; nothing is called after it but load().
        """


class IReservationStore(Interface):
    """Where reservations outlive the process: those made while the server runs, not those of the configuration."""

    def reservations() -> Any:
        """What save_reservations() was given last, as an iterable of Reservation. May block; called after load()."""

    def save_reservations(reservations: Any) -> Any:
        """Keep this sequence of Reservation instead of all those before. A Deferred, as of ILeaseStore.commit()."""


class IBootObserver(Interface):
    """Is told what happened."""

    def observe(event: Any) -> None:
        """One of the values of bootfw.events. Called later in the same reactor, in order; must not block.

        What it raises is logged, and it stays registered.
        """

    # It may have a method ``observe_many(events)`` too: called in place of the other with those of one turn, in order.


class IBootPlugin(Interface):
    """What a plugin name in the configuration leads to: a factory. Usually made by ``bootfw.api.boot_plugin``."""

    provides: Any = Attribute("The interface that configure()'s result provides, such as IBackend.")
    summary: str = Attribute("One line for --list-plugins.")

    def configure(options: dict[str, Any], context: Any) -> Any:
        """The configured object. *options* is the plugin's own table without ``use``; no I/O happens here.

        :param context: a PluginContext: ``reactor``, and ``directory``, the path that relative paths are relative to.
        :raise ConfigError: with the path below the table, such as ``("files", "x86-bios")``.
        """


class IBatchReceiver(Interface):
    """A DatagramProtocol that can take what has arrived in one call. bootfw's own datagram port looks for it."""

    def datagrams_received(batch: Any) -> None:
        """*batch* is a list of (data, peer, via): bytes, Address, Via."""


class IViaTransport(Interface):
    """A datagram transport that can choose where a reply leaves. bootfw's own datagram port provides it."""

    def write_via(data: Any, peer: Any, via: Any, segment: int = 0) -> None:
        """Send from ``via.local`` on ``via.interface`` to *peer*. What the network does not take is lost, not raised.

        :param data: bytes; with *segment* > 0 a run of datagrams of that many octets each, the last may be shorter.
        :param via: a Via, or None: the kernel chooses.
        :raise InvalidAddressError: *peer* is no numeric address of the port's family.
        """
