"""The TFTP listener: dispatches datagrams to transfers and opens files. The sessions are in bootfw.tftp."""

import os
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from secrets import randbelow
from typing import Any

from attrs import evolve
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.ability import provides
from bootfw.boot.backends import with_client_lookup
from bootfw.boot.clients import Clients
from bootfw.boot.etag import etag_of
from bootfw.boot.flightrecorder import LONGEST_KEPT, OF_TRANSFER, FlightRecorder
from bootfw.boot.pluginresult import as_deferred, traceback_of, transfer_error
from bootfw.config.settings import TFTPSettings, may_write
from bootfw.errors import AccessViolation, IllegalOperation, TransferError, WireError
from bootfw.events import Event, PluginFailed, TransferBegun, TransferRefused
from bootfw.interfaces import (
    IBackend,
    IBatchingBackend,
    IBatchReceiver,
    IWatchdogPolicy,
    IWritableBackend,
)
from bootfw.net.admission import Admission
from bootfw.net.alarm import Alarm
from bootfw.net.backlog import Backlog, RequestKind
from bootfw.net.dropcounter import DropCounter
from bootfw.net.linux.interfaces import Interfaces, fitting_blksize
from bootfw.net.nodes.elsewhere import TransferElsewhere
from bootfw.net.shares import Shares
from bootfw.net.tftp.fastpath import attach
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.handover import AdoptedTransfer, AdoptedTransfers, has_changed, is_same
from bootfw.net.tftp.listenerstates import Do, Input, ListenerStates, State
from bootfw.net.tftp.multicast import GroupAddresses, Groups, requests_multicast
from bootfw.net.tftp.parsedrequest import ParsedRequest
from bootfw.net.tftp.quirks import allowed_options, capped_limits, open_with_quirks
from bootfw.net.tftp.reading import ReadTransfer
from bootfw.net.tftp.transfer import Transfer, TransferContext, send_nothing
from bootfw.net.tftp.transferport import TransferProtocol, bindable, sender_of
from bootfw.net.tftp.watchdog import begin_watchdog
from bootfw.net.tftp.writing import WriteTransfer
from bootfw.net.udp.packetinfo import Cache
from bootfw.personas.table import Personas, stock
from bootfw.tftp.negotiation import Limits, negotiate, without_windows
from bootfw.values import Address, Mode, TFTPQuirks, TransferRequest, Via
from bootfw.wire import tftp as wire

Listen = Callable[[DatagramProtocol, str], Any]
"""Opens a port of its own for one transfer, bound to the given address ("" for any); raises CannotListenError."""

_negotiate = lru_cache(1024)(negotiate)  # machines that boot together ask for the same
_REQUEST_OPCODES = (b"\0\1", b"\0\2")
_LONGEST_CACHED_REQUEST = 512
"""Bytes, the most that RFC 2347 allows a request. Up to that its parsed form is cached: machines that boot together
send the same."""
_ACK = b"\0\4"
_ERROR = b"\0\5"

MOST_TRANSFERS = 8192
"""Transfers at once on one port. Another one then takes the place of the oldest that was never acknowledged, or is
dropped: its client requests it again."""

ANNOUNCEMENT_DELAY = 0.1
"""Seconds that an announcement of another node may take to arrive. A transfer whose client was heard here within them
stays here: no client begins at another node so soon after that."""

_REQUEST = RequestKind("file", 2.0)
"""A request that has waited for 2 s is not answered: iPXE has repeated it three times by then, and gives up after 8 s;
EDK2 repeats it after 4 s, U-Boot after 5."""
_TRANSFER_OPCODES = (b"\0\3", b"\0\4", b"\0\5")


def _request_kind(data: bytes) -> RequestKind | None:
    """Return the kind of a datagram for the Backlog. None: it belongs to a transfer; it is cheap, and never dropped."""
    return None if data[:2] in _TRANSFER_OPCODES else _REQUEST


@implementer(IBatchReceiver)
class TFTPProtocol(DatagramProtocol):
    """Serves TFTP (RFC 1350, 2347, 2348, 2349, 7440) on one port.

    It runs on any datagram transport. On one that provides IViaTransport, replies leave from the address that
    the request came to, and a window leaves in one call.

    :param reactor: IReactorTime.
    :param backend: IBackend; uploads need an IWritableBackend.
    :param watchdog: IWatchdogPolicy.
    :param publish: called with each event; must not raise.
    :param listen: opens a port for each transfer; None: every reply leaves from this port.
    :param mtu: the MTU in bytes of the interface a Via names, None when unknown.
    :param interfaces: requests that come by others are ignored.
    :param frame_cache: None: files are not cached.
    :param personas: whose quirks apply; None: those that come with bootfw.
    :param clients: finds the client at an address, for backends and personas; None: a client is its address.
    :param randbelow: random numbers that a peer can't guess.
    :param adopted: the adopted transfers of all ports of the service; None: this port has its own.
    :param recorder: keeps packets in memory; None: they are not kept.
    :param admission: decides which requests are served; None: all of them.
    :param tags_files: a TransferBegun has the entity tag of its file, for other nodes.
    :param group_addresses: for clients that request multicast, those of all ports of the service; None: there are none.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        backend: IBackend,
        watchdog: IWatchdogPolicy,
        publish: Callable[[Event], None],
        *,
        settings: TFTPSettings | None = None,
        listen: Listen | None = None,
        mtu: Callable[[Via], int | None] | None = None,
        interfaces: Interfaces | None = None,
        frame_cache: FrameCache | None = None,
        personas: Personas | None = None,
        clients: Clients | None = None,
        randbelow: Callable[[int], int] = randbelow,
        adopted: AdoptedTransfers | None = None,
        recorder: FlightRecorder | None = None,
        admission: Admission | None = None,
        tags_files: bool = False,
        group_addresses: GroupAddresses | None = None,
    ) -> None:
        self._reactor = reactor
        self._client_at = clients.lookup if clients is not None else None
        self._publish = publish
        self.use(backend, watchdog, settings or TFTPSettings(), personas or stock())
        self._listen = listen
        self._mtu = mtu
        self._interfaces = interfaces or Interfaces()
        self._malformed = DropCounter("tftp", publish, reactor)
        self._backlog = Backlog("tftp", _request_kind, None if admission is None else admission.most, publish, reactor)
        self._admission = admission
        self._tags_files = tags_files
        self._transfers: dict[Address, Transfer] = {}
        self._shares = Shares()
        self._unproven: dict[Address, Transfer] = {}
        """Transfers whose clients may have sent only their requests, the oldest first. One that has had an ACK stays
        until _make_room() comes to it, so that no ACK has to remove it."""
        self._fitting: dict[Via, int] = {}
        """The largest block size for each Via of the requests of this batch: the MTU is looked up once for all of them,
        and again for the next batch, as it may change."""
        self._parsed = Cache(ParsedRequest.parse)
        self._context = TransferContext(
            reactor=reactor,
            alarm=Alarm(reactor, lambda transfer, now: transfer.ring(now)),
            publish=publish,
            on_stray=self._on_stray,
            on_finished=self._on_finished,
            frame_cache=frame_cache or FrameCache(0),
            randbelow=randbelow,
        )
        self._groups = Groups(self._context, group_addresses) if group_addresses else None
        """None: there is no multicast."""
        self._adopted = adopted or AdoptedTransfers(reactor, publish)
        self._adopted.ports.add(self)
        self._heir: TFTPProtocol | None = None
        """The protocol that has taken over the port by a reload, and gets the requests that still arrive here. None:
        there is none."""
        self._elders: tuple[TFTPProtocol, ...] = ()
        """The protocols that had the port before reloads, as long as their transfers run. Packets of these may arrive
        here."""
        self._shares_port = False
        """Whether there is an heir or an elder: one attribute to test for each datagram."""
        self._keep = None if recorder is None else recorder.keep_tftp
        self._port_number = 0
        """The number of the port, for the flight recorder."""
        self._states = ListenerStates()
        self._do = {Do.END_TRANSFERS: self._end_transfers}

    @property
    def transfers(self) -> int:
        """How many transfers are under way."""
        return len(self._transfers)

    def use(self, backend: IBackend, watchdog: IWatchdogPolicy, settings: TFTPSettings, personas: Personas) -> None:
        """Serve the requests that come from now on by these. Transfers under way keep what they began with."""
        self._backend = backend = with_client_lookup(backend, self._client_at)
        self._batching = backend if provides(backend, IBatchingBackend) else None
        self._watchdog = watchdog
        self._settings = settings
        self._personas = personas
        self._usual_limits = Limits(settings.max_blksize, settings.max_windowsize)

    def use_ports(self, listen: Listen | None) -> None:
        """Open the ports of the transfers that begin from now on by *listen*, as for the constructor."""
        self._listen = listen

    def under_way(self) -> set[Any]:
        """Return the transfers under way."""
        return set(self._transfers.values())

    # What the transport calls.

    def startProtocol(self) -> None:
        self._states.run(self._do, Input.START)
        transport: Any = self.transport
        if hasattr(transport, "trim_backlog"):
            transport.trim_backlog = self._backlog.trim
        context = self._context
        context.send = sender_of(transport)
        if self._keep is not None:
            context.keep, self._port_number = self._keep, transport.getHost().port
        if self._groups is not None and hasattr(transport, "getHandle"):
            sock = transport.getHandle()
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._settings.multicast_ttl)
        if context.frame_cache.capacity:
            context.fast_path = attach(self.transport, self._reactor.seconds)

    def stopProtocol(self) -> None:
        self._context.send = send_nothing
        self._states.run(self._do, Input.STOP)
        self._context.fast_path = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.datagrams_received(((datagram, addr, None),))

    def datagrams_received(self, batch: Any) -> None:
        """See IBatchReceiver."""
        now = self._reactor.seconds()
        self._fitting.clear()
        batching = self._batching
        if len(batch) == 1 or batching is None:
            self._take_batch(batch, now)
        else:
            batching.begin_batch()
            try:
                self._take_batch(batch, now)
            finally:
                batching.end_batch()
        self._fitting.clear()

    def _take_batch(self, batch: Any, now: float) -> None:
        find = self._transfers.get
        for data, peer, via in batch:
            try:
                transfer = find(peer)
                if data[:2] in _REQUEST_OPCODES:
                    if not (self._shares_port and self._pass_on(data, peer, via, now)):
                        self._take_request(data, peer, via, transfer, now)
                # A transfer with a port of its own receives there (RFC 1350 section 4: its TID); what comes here is
                # stray.
                elif transfer is not None and transfer.port is None:
                    transfer.datagram(data, now)
                elif self._resume(data, peer, via, now):
                    pass
                elif not (self._shares_port and self._pass_on(data, peer, via, now)):
                    self._on_stray(data, peer, now)
            except Exception:
                # A bug of ours, as no packet may raise. The rest of the batch is of other clients.
                self._log.failure("Unexpected error for a datagram of {peer}.", peer=peer)

    def _pending_backend(self, answer: Any) -> str:
        return self._batching.pending_backend(answer) if self._batching is not None else "the backend"

    def close(self) -> None:
        """End every transfer, with an ERROR to each peer."""
        self._states.run(self._do, Input.CLOSE)

    def _end_transfers(self) -> None:
        now = self._reactor.seconds()
        for transfer in list(self._transfers.values()):
            transfer.cancel("the server is stopping", now)
        self._adopted.give_up("the server is stopping")
        self._context.alarm.stop()
        self._malformed.stop()
        self._backlog.stop()

    def _on_stray(self, data: bytes, peer: Address, now: float) -> None:
        """Count a datagram that belongs to no transfer, if it is malformed; a well-formed one is late. Never answered.

        RFC 1350 asks for ERROR 5; but on this port a forged datagram would have it sent to another host.
        """
        try:
            wire.parse(data)
        except WireError as error:
            self._malformed.count(str(error), peer, now)

    # Requests.

    def _take_request(self, data: bytes, peer: Address, via: Via | None, existing: Transfer | None, now: float) -> None:
        admission = self._admission
        if admission is not None and not admission.admits("tftp", peer, now):
            return
        if existing is not None and existing.raw == data and existing.request_repeated(now):
            return
        # RFC 1123 section 4.2.3.5: a broadcast or multicast request is silently ignored.
        if (
            self._states.state is not State.SERVING
            or (via is not None and via.destination not in ("", via.local))
            or not (self._interfaces.all_served or self._interfaces.serves(via))
        ):
            return
        try:
            parsed = self._parsed[data] if len(data) <= _LONGEST_CACHED_REQUEST else ParsedRequest.parse(data)
        except WireError as error:
            self._malformed.count(str(error), peer, now)
            reply = wire.error(wire.ErrorCode.ILLEGAL_OPERATION, "Malformed request")
            # The source may be forged, and a malformed request may have two bytes: limit the amplification.
            if existing is None and len(reply) <= 4 * len(data):
                self._context.send(reply, peer, via, 0)
                self._keep_refused(data, peer, via, reply, now)
            return
        if existing is not None:
            # The client has started again from the same port, after a reset for example. Two transfers with one pair of
            # TIDs would mix their ACKs (RFC 1350 section 4).
            existing.replace(now)
        if not self._has_room(peer, now):
            return
        self._adopted.replace(peer, now)
        request = parsed.for_peer(peer, via)
        quirks = self._personas.quirks(request, self._client_at)
        if parsed.mode is None:
            refusal = IllegalOperation(f"Mode {parsed.mode_name[:20]!r} is not served")
            self._refuse(request, data, via, refusal, now, quirks)
            return
        if quirks is not None and quirks.ignore_case:
            request = evolve(request, ignore_case=True)
        try:
            answer = self._open_file(request, quirks)
        except Exception as error:
            self._refuse(request, data, via, self._client_error(request, error, now), now, quirks)
            return
        transfer_class = WriteTransfer if request.write else ReadTransfer
        transfer = transfer_class(request, data, via, self._context, quirks)
        if existing is not None and existing.raw == data:
            transfer.earlier = existing.reached()
        keep = self._keep
        if keep is not None:
            keep((now, False, data, len(data), 0, peer, via, self._port_number))
            transfer.recorded_port, transfer.packets_to_record = self._port_number, OF_TRANSFER
        self._await_file(transfer, answer, now)

    def _has_room(self, peer: Address, now: float) -> bool:
        """Return whether *peer* may have another transfer, after _make_room() if there are MOST_TRANSFERS."""
        if not self._shares.allows(peer[0], MOST_TRANSFERS):
            if self._admission is not None:
                self._admission.drop("tftp", "too many transfers at once of one client", peer, now)
            return False
        if self._shares.total < MOST_TRANSFERS or self._make_room(now):
            return True
        if self._admission is not None:
            self._admission.drop("tftp", f"{MOST_TRANSFERS} transfers at once", peer, now)
        return False

    def _make_room(self, now: float) -> bool:
        """End the oldest transfer that its client has never acknowledged. Returns False if there is none."""
        unproven = self._unproven
        while unproven:
            transfer = unproven.pop(next(iter(unproven)))
            if not transfer.client_has_answered:
                transfer.replace(now)
                return True
        return False

    def _keep_refused(self, raw: bytes, peer: Address, via: Via | None, reply: bytes, now: float) -> None:
        keep = self._keep
        if keep is not None:
            number = self._port_number
            if raw:
                keep((now, False, raw[:LONGEST_KEPT], len(raw), 0, peer, via, number))
            keep((now, True, reply, len(reply), 0, peer, via, number))

    # Adopted transfers

    def positions(self) -> list[tuple[Address, int]]:
        """Return (peer, the block that it has acknowledged) of the transfers whose block numbers wrap on the wire."""
        transfers = self._transfers.items()
        return [(peer, transfer.session.acked) for peer, transfer in transfers if transfer.numbers_repeat]

    @property
    def on_this_port(self) -> list[Transfer]:
        """The transfers that have no port of their own."""
        return [transfer for transfer in self._transfers.values() if transfer.port is None]

    def drain(self) -> None:
        """Drop requests from now on. Transfers on their own ports finish even after this port has closed."""
        self._states.run(self._do, Input.DRAIN)

    # Two sockets with one port number, of overlapping addresses: the kernel gives a datagram to the one with the more
    # specific address, whichever of them its transfer began at.

    def succeed(self, elder: "TFTPProtocol", *, wholly: bool) -> None:
        """Take the requests that come to the port from now on, in place of *elder*, whose transfers go on there.

        :param wholly: every address of *elder* is one of ours.
        """
        self._elders, self._shares_port = (*self._elders, elder), True
        if wholly:
            elder._heir, elder._shares_port = self, True

    def forget(self, elder: "TFTPProtocol") -> None:
        """Note that *elder* has closed."""
        self._elders = tuple(each for each in self._elders if each is not elder)
        self._shares_port = bool(self._elders or self._heir)

    def _pass_on(self, data: bytes, peer: Address, via: Via | None, now: float) -> bool:
        """Give a datagram that is of no transfer of ours, or a request, to the protocol of the other socket.

        An heir gives us what repeats the request of a transfer of ours.

        :return: false: it is for this one.
        """
        if self._elder_takes(data, peer, now):
            return True
        if self._heir is not None:
            self._heir.datagrams_received(((data, peer, via),))
        return self._heir is not None

    def _elder_takes(self, data: bytes, peer: Address, now: float) -> bool:
        """Give a datagram to the transfer of an elder, if it is of one. A new request ends that transfer."""
        for elder in self._elders:
            transfer = elder._transfers.get(peer)
            if transfer is None:
                continue
            if data[:2] not in _REQUEST_OPCODES:
                if transfer.port is None:
                    transfer.datagram(data, now)
                return True
            if transfer.raw == data and transfer.request_repeated(now):
                return True
            transfer.replace(now)
        return False

    def abandon_transfers(self) -> None:
        """Drop the transfers on this port, with an ERROR to the clients that no other process can go on with."""
        now = self._reactor.seconds()
        for transfer in self.on_this_port:
            if transfer.can_hand_over or transfer.is_reported:
                transfer.finish()
            else:
                transfer.cancel("another process serves this port now, start again", now)

    # Other nodes

    def begun_elsewhere(self, event: TransferBegun, now: float) -> None:
        """End the transfer of a client that another node serves now.

        :param event: the transfer that it has begun or continued there.
        """
        transfer = self._transfers.get(event.request.peer)
        if transfer is None or transfer.session is None or transfer.port is not None:
            return
        # Of a transfer that was continued, the node with the latest ACK goes on. One that was begun anew there has
        # ended ours, unless our client was heard just before.
        if event.acked is not None and event.request.filename == transfer.request.filename:
            moved = event.acked >= transfer.session.acked
        else:
            moved = event.at - transfer.session.last_heard > ANNOUNCEMENT_DELAY
        if moved:
            transfer.go_on_elsewhere(now)

    def hand_over(self) -> None:
        """End the transfers that can go on at another node, without an ERROR: this one stops."""
        now = self._reactor.seconds()
        for transfer in self.on_this_port:
            if transfer.can_go_on_elsewhere:
                transfer.go_on_elsewhere(now)

    def _resume_elsewhere(self, data: bytes, peer: Address, via: Via | None, now: float) -> bool:
        """Go on with a transfer of another node, if *data* is of one."""
        if self._listen is not None or self._states.state is not State.SERVING or len(data) < 4:
            return False
        found = self._adopted.elsewhere.take(peer, now)
        if found is None or data[:2] == _ERROR:
            return found is not None
        begun_event = found.begun_event
        request = evolve(begun_event.request, peer=peer, local="" if via is None else via.local)
        if data[:2] != _ACK or request.write or request.mode is not Mode.OCTET:
            refusal = TransferError("Another server has begun this, start again")
            self._refuse(request, b"", via, refusal, now, self._personas.quirks(request, self._client_at))
        elif self._has_room(peer, now):
            raw = wire.request(False, request.filename, request.mode.value, request.options)
            number = data[2] << 8 | data[3]
            self._continue(evolve(begun_event, request=request), raw, via, number, now, found)
        return True

    def _continued(self, transfer: Transfer, elsewhere: TransferElsewhere, file: Any, now: float) -> TransferBegun:
        """Return the event of a transfer that another node has begun, and that goes on here.

        :raise TransferError: it can't.
        """
        assert isinstance(transfer, ReadTransfer)
        assert isinstance(transfer.resumed, int)
        if not is_same(file, elsewhere):
            raise TransferError("This server has another version of the file, start again")
        block = elsewhere.block(transfer.resumed, file.size, now)
        if block is None:
            raise TransferError("This server does not know how much you have, start again")
        transfer.resumed = block
        begun_event = elsewhere.begun_event
        return TransferBegun(now, transfer.request, begun_event.agreed, begun_event.etag, block)

    def take_over(self, adopted: Iterable[AdoptedTransfer]) -> None:
        """Go on with transfers that were handed over, and with the others as soon as their clients are heard.

        Where transfers have ports of their own, their clients send to ports that are closed, and are never heard here.
        A TransferEnded is published for each that does not go on, so that each transfer has one.
        """
        for begun_event, handover in self._adopted.add(adopted):
            self._continue(begun_event, handover.raw, handover.via, handover.position, self._reactor.seconds())
        if self._listen is not None:
            self._adopted.give_up("its worker ended")

    def _resume(self, data: bytes, peer: Address, via: Via | None, now: float) -> bool:
        """Go on with an adopted transfer, if *data* is of one."""
        adopted = self._adopted.take(peer)
        if adopted is None:
            if self._adopted.elsewhere and self._resume_elsewhere(data, peer, via, now):
                return True
            reply = self._adopted.reply(peer, data)
            if reply is not None:
                self._context.send(reply, peer, via, 0)
            return reply is not None
        if data[:2] != _ACK or len(data) < 4:
            self._adopted.publish_failed(adopted.begun_event, "its worker ended, and then the client")
            return True
        self._continue(adopted.begun_event, b"", via, adopted.block(data[2] << 8 | data[3]), now)
        return True

    def _continue(
        self,
        begun_event: TransferBegun,
        raw: bytes,
        via: Via | None,
        resumed: Any,
        now: float,
        elsewhere: TransferElsewhere | None = None,
    ) -> None:
        """Open the file again, and go on from *resumed*.

        :param raw: the datagram of the request, by which its copies are known; b"": it is lost, and a copy of it begins
            a new transfer.
        :param resumed: as of ReadSession.
        :param elsewhere: the transfer of another node; then *resumed* is the number on the wire of the ACK.
        """
        request = begun_event.request
        quirks = self._personas.quirks(request, self._client_at)
        transfer = ReadTransfer(request, raw, via, self._context, quirks)
        transfer.begun_event, transfer.resumed, transfer.elsewhere = begun_event, resumed, elsewhere
        if self._keep is not None:
            transfer.recorded_port, transfer.packets_to_record = self._port_number, OF_TRANSFER
        try:
            answer = self._open_file(request, transfer.quirks)
        except Exception as error:
            self._not_opened(transfer, error, now)
        else:
            self._await_file(transfer, answer, now)

    # Files.

    def _open_file(self, request: TransferRequest, quirks: TFTPQuirks | None) -> Any:
        """Call the backend, and return a reader or writer, or a Deferred of one.

        :raise Exception: see IBackend.
        """
        if not request.write:
            if quirks is None:
                return self._backend.open(request.path, request)
            return open_with_quirks(self._backend, request, quirks)
        if may_write(self._settings, request.peer[0]) and IWritableBackend.providedBy(self._backend):
            return self._backend.create(request.path, request)
        raise AccessViolation("Uploads are not allowed")

    def _await_file(self, transfer: Transfer, answer: Any, now: float) -> None:
        peer = transfer.request.peer
        if peer not in self._transfers:
            self._shares.take(peer[0])
        self._transfers[peer] = self._unproven[peer] = transfer
        waiting = as_deferred(answer)
        if waiting is None:
            self._opened(transfer, answer, now)
            return
        transfer.await_file(waiting, self._pending_backend, self._opened, self._not_opened)

    def _opened(self, transfer: Transfer, file: Any, now: float) -> None:
        try:
            transfer.file_opened(file)
            begun_event = transfer.begun_event
            if begun_event is not None:
                if transfer.elsewhere is not None:
                    transfer.begun_event = begun_event = self._continued(transfer, transfer.elsewhere, file, now)
                    self._publish(begun_event)
                elif has_changed(file, begun_event):
                    raise TransferError("The file has changed meanwhile, start again")
                transfer.begin(begun_event.agreed, begin_watchdog(self._watchdog, begun_event.agreed)[1], now)
                return
            request, quirks = transfer.request, transfer.quirks
            options = request.options if quirks is None else allowed_options(request.options, quirks)
            if (
                self._groups is not None
                and isinstance(transfer, ReadTransfer)
                and requests_multicast(request, options)
                and self._join_group(self._groups, transfer, options, now)
            ):
                return
            if self._listen is not None:
                self._give_own_port(transfer)
            agreed = _negotiate(
                options,
                write=request.write,
                mode=request.mode,
                size=None if request.write else file.size,
                limits=self._limits(transfer),
            )
            agreed, watchdog = begin_watchdog(self._watchdog, agreed)
            etag = etag_of(file, file.size) if self._tags_files and not request.write else ""
        except Exception as error:
            self._not_opened(transfer, error, now)
            return
        self._publish(TransferBegun(now, request, agreed, etag))
        transfer.begin(agreed, watchdog, now)

    def _join_group(self, groups: Groups, alone: ReadTransfer, options: wire.Options, now: float) -> bool:
        """Make a client a member of a group, which sends it the file, in place of a transfer of its own.

        :return: False if it has to go on alone.
        """
        request = alone.request
        agreed = _negotiate(
            without_windows(options), write=False, mode=request.mode, size=alone.size, limits=self._limits(alone)
        )
        agreed, watchdog = begin_watchdog(self._watchdog, agreed)
        joined = groups.join(alone, agreed, options)
        if joined is None:
            return False
        transfer, agreed = joined
        self._context.alarm.forget(alone)
        self._transfers[request.peer] = self._unproven[request.peer] = transfer
        # No tag: another node has no part in the group, and can't go on with it.
        self._publish(TransferBegun(now, request, agreed))
        transfer.begin(agreed, watchdog, now)
        return True

    def _not_opened(self, transfer: Transfer, error: BaseException, now: float) -> None:
        refusal = self._client_error(transfer.request, error, now)
        if transfer.begun_event is None or transfer.elsewhere is not None:
            self._refuse(transfer.request, b"", transfer.via, refusal, now, transfer.quirks)
        else:
            self._context.send(wire.error(refusal.tftp_code, refusal.message), transfer.request.peer, transfer.via, 0)
            self._adopted.publish_failed(transfer.begun_event, refusal.message)
        transfer.finish()

    def _client_error(self, request: TransferRequest, error: BaseException, now: float) -> TransferError:
        """Return the error to send to the client. A bug in the backend is published with its traceback."""
        client_error = transfer_error(error)
        if client_error is None:
            client_error = TransferError("Internal error")
            doing = f"open {request.filename!r}"
            self._publish(PluginFailed(now, plugin="backend", doing=doing, traceback=traceback_of(error)))
        return client_error

    def _refuse(
        self,
        request: TransferRequest,
        raw: bytes,
        via: Via | None,
        refusal: TransferError,
        now: float,
        quirks: TFTPQuirks | None,
    ) -> None:
        """Send an ERROR for a request, and publish a TransferRefused.

        :param raw: the datagram of the request, for the flight recorder; b"": it has recorded that already.
        """
        reply = wire.error(refusal.tftp_code, refusal.message)
        self._context.send(reply, request.peer, via, 0)
        self._keep_refused(raw, request.peer, via, reply, now)
        persona = quirks.persona if quirks is not None else ""
        self._publish(TransferRefused(now, request, refusal.tftp_code, refusal.message, refusal.detail, persona))

    def _limits(self, transfer: Transfer) -> Limits:
        via = transfer.via
        max_blksize = self._settings.max_blksize
        if via is not None and self._mtu is not None:
            fitting = self._fitting.get(via)
            if fitting is None:
                fitting = self._fitting[via] = fitting_blksize(max_blksize, via, self._mtu)
            max_blksize = fitting
        if transfer.request.write:
            # Twisted's port cuts off what is longer, and a block that was cut would pass for the last one.
            largest = getattr(transfer.port or self.transport, "maxPacketSize", 65535)
            max_blksize = min(max_blksize, largest - 4)
        # Nearly all transfers share one object, which the cache of _negotiate finds by identity.
        limits = self._usual_limits
        if max_blksize != limits.max_blksize:
            limits = Limits(max_blksize, limits.max_windowsize)
        return limits if transfer.quirks is None else capped_limits(limits, transfer.quirks)

    def _on_finished(self, transfer: Transfer) -> None:
        peer = transfer.request.peer
        if self._transfers.get(peer) is transfer:
            del self._transfers[peer]
            self._unproven.pop(peer, None)
            self._shares.give_back(peer[0])

    def _give_own_port(self, transfer: Transfer) -> None:
        """Give a transfer a port of its own (RFC 1350 section 4: the server chooses its TID)."""
        assert self._listen is not None
        protocol = TransferProtocol(self._reactor, transfer)
        try:
            port = self._listen(protocol, bindable(transfer.via))
        except CannotListenError as error:
            # Not in the words of the error, which may tell what else runs on this host.
            number = getattr(error.socketError, "errno", None)
            reason = os.strerror(number) if number else "it can't be opened"
            raise TransferError(f"No port for the transfer: {reason}") from error
        transfer.use_port(port, protocol.send, unguessable=not isinstance(self._settings.ports, tuple))
