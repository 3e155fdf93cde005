"""Transfers that share one sender (RFC 2090): the groups of a port, and what connects a client to its group."""

from collections.abc import Callable, Hashable, Iterator
from ipaddress import IPv4Address
from typing import Any

from attrs import define, field

from bootfw.ability import provides
from bootfw.boot.onceper import BLOCKED_SECONDS
from bootfw.boot.pluginresult import as_deferred, checked_bytes
from bootfw.config.settings import group_range
from bootfw.interfaces import ICacheableReader, IReader
from bootfw.net.tftp import transferstates
from bootfw.net.tftp.framecache import content_key, is_cacheable
from bootfw.net.tftp.reading import ReadTransfer
from bootfw.net.tftp.transfer import Reached, Transfer, TransferContext
from bootfw.tftp.multicast import MOST_BLOCKS, OPTION, Input, Member, MulticastSession
from bootfw.tftp.negotiation import with_multicast
from bootfw.values import Agreed, Mode, Outcome, TransferRequest, Via
from bootfw.wire import tftp as wire
from bootfw.wire.tftp import Options

PORT = 1758
"""UDP port of all groups: the registered one, tftp-mcast, which RFC 2090 recommends."""

MOST_MEMBERS = 1000
"""Clients of one group; further ones get the file by transfers of their own."""


def requests_multicast(request: TransferRequest, options: Options) -> bool:
    """Return whether the client requests a file by multicast. Groups have IPv4 addresses.

    :param options: those of the request that are allowed.
    """
    return (
        not request.write
        and request.mode is Mode.OCTET
        and ":" not in request.peer[0]
        and any(name.lower() == OPTION for name, _ in options)
    )


@define(eq=False)
class GroupAddresses:
    """The addresses that no group uses, of all ports of a service.

    :param groups: the first and the last one, as in the configuration; "": there are none.
    """

    _groups: str
    _used_addresses: set[str] = field(factory=set, init=False)

    def __bool__(self) -> bool:
        """Whether there may be groups at all."""
        return bool(self._groups)

    def take(self) -> str | None:
        """Return an address, and note that it is used; None: none is left."""
        address = next((each for each in self._all() if each not in self._used_addresses), None)
        if address is not None:
            self._used_addresses.add(address)
        return address

    def give_back(self, address: str) -> None:
        """Note that *address* is free again."""
        self._used_addresses.discard(address)

    def _all(self) -> Iterator[str]:
        first, last = (int(IPv4Address(address)) for address in group_range(self._groups))
        return (str(IPv4Address(number)) for number in range(first, last + 1))


@define(eq=False)
class Group:
    """A MulticastSession with its file and the transfers of its clients."""

    context: TransferContext
    reader: IReader
    via: Via | None
    """How the requests came: blocks leave by the same interface, from the same address."""
    session: MulticastSession
    _on_closed: Callable[[], None]
    """Called when no client is left."""
    transfers: "dict[Member, GroupTransfer]" = field(factory=dict, init=False)
    closed: bool = field(default=False, init=False)

    def advance(self, now: float) -> None:
        """Do what the session publishes, until it waits for the master client or for the file."""
        session, transfers = self.session, self.transfers
        self._send_out()
        while session.wants is not None:
            assert session.master is not None
            data = transfers[session.master].fetch(now)
            if data is None:
                break
            session.handle(Input.FETCHED, (session.master, data), now)
            self._send_out()
        while session.ended:
            transfers[session.ended.pop()].settle(now)
        if session.master is None:
            self._close()
        elif session.master in transfers:
            self.context.alarm.watch(transfers[session.master])

    def abandon(self) -> "list[GroupTransfer]":
        """Forget the transfers, which can't go on, and return them."""
        transfers = list(self.transfers.values())
        self.transfers.clear()
        self._close()
        return transfers

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._on_closed()
            self.reader.close()

    def _send_out(self) -> None:
        session = self.session
        for member, data in session.out:
            if member is None:
                self.context.send(data, session.address, self.via, 0)
            elif member in self.transfers:
                self.transfers[member].send(data)
        session.out.clear()


@define(eq=False)
class GroupTransfer(Transfer):
    """The transfer of one client of a Group, which sends it the blocks."""

    group: Group = field(kw_only=True)

    @classmethod
    def in_place_of(cls, transfer: ReadTransfer, group: Group) -> "GroupTransfer":
        """Return a member of *group* that goes on in place of *transfer*, whose request has opened the file."""
        grouped = cls(transfer.request, transfer.raw, transfer.via, group.context, transfer.quirks, group=group)
        grouped.recorded_port, grouped.packets_to_record = transfer.recorded_port, transfer.packets_to_record
        grouped.backend_wait = transfer.backend_wait
        return grouped

    def datagram(self, data: bytes, now: float) -> None:
        """See Transfer."""
        opcode = data[:2]
        if opcode == b"\0\4" and len(data) >= 4:
            if self.packets_to_record:
                self._keep(data, now)
            self._handle(Input.ACK, data[2] << 8 | data[3], now)
        elif opcode == b"\0\5" and len(data) >= 4:
            self._error_received(data, now)
        else:
            self._context.on_stray(data, self.request.peer, now)

    def fetch(self, now: float) -> bytes | None:
        """Return the content of the block that this client, the master, has requested; None: it is pending, or the
        transfers have just failed."""
        if self._pending is not None:
            return None
        reader = self.group.reader
        offset, length = self.group.session.wanted
        if not length:
            return b""
        seconds = self._context.reactor.seconds
        began = seconds()
        try:
            answer = reader.read(offset, length)
            took = seconds() - began
            if took > BLOCKED_SECONDS:
                self._blocked("reader", reader, "read()", took)
            waiting = as_deferred(answer)
            if waiting is None:
                return checked_bytes(answer, length, reader)
        except Exception as error:
            self._file_failed(error, now)
            return None
        self.await_result(waiting, self._fetched, self._file_failed)
        return None

    def settle(self, now: float) -> None:
        """Report the outcome, and release what is held."""
        self._settle(now)

    def fail(self, now: float) -> None:
        """End with an ERROR for a bug that another transfer of the group has reported."""
        self.send(wire.error(wire.ErrorCode.NOT_DEFINED, "Internal error"))
        self._end(transferstates.Input.OUTCOME, (Outcome.FAILED, "Internal error"), now)
        self.finish()

    def _fetched(self, answer: Any, now: float) -> None:
        try:
            data = checked_bytes(answer, self.group.session.wanted[1], self.group.reader)
        except Exception as error:
            self._file_failed(error, now)
            return
        self._handle(Input.FETCHED, data, now)

    def _make_session(self, watchdog: Any, now: float) -> Member:
        session = self.group.session
        member = Member(session, self._agreed, watchdog, now)
        self.group.transfers[member] = self
        session.handle(Input.JOINED, (member, None), now)
        return member

    def _advance(self, now: float) -> None:
        self.group.advance(now)

    def _session_raised(self, error: Exception, now: float) -> None:
        # It may have been raised for any client, and the session is in no state to go on.
        others = [transfer for transfer in self.group.abandon() if transfer is not self]
        super()._session_raised(error, now)
        for transfer in others:
            transfer.fail(now)

    def _reached(self) -> Reached:
        return Reached(0, 0, self._started_at)

    def _release(self) -> None:
        member, group = self.session, self.group
        if group.transfers.pop(member, None) is not None and member.outcome is None:
            now = self._context.reactor.seconds()
            group.session.handle(Input.REPLACED, (member, None), now)
            # REPLACED has put it there, but it is being released already.
            group.session.ended.remove(member)
            group.advance(now)


class Groups:
    """The groups of one port.

    :param addresses: those of all ports of the service.
    """

    def __init__(self, context: TransferContext, addresses: GroupAddresses) -> None:
        self._context = context
        self._addresses = addresses
        self._groups: dict[Hashable, Group] = {}

    def join(self, transfer: ReadTransfer, agreed: Agreed, options: Options) -> tuple[GroupTransfer, Agreed] | None:
        """Return what takes the place of *transfer*, whose client requests multicast and whose file is open, and what
        is agreed then; None: it has to go on alone.

        :param agreed: without windows.
        :param options: those of the request that are allowed.
        :raise Exception: the reader, a plugin, has failed.
        """
        size = transfer.size
        identity = _identity(transfer.reader, transfer.request.path)
        if identity is None or size is None or size // agreed.blksize >= MOST_BLOCKS:
            return None
        via = transfer.via
        key = identity, agreed.blksize, None if via is None else (via.local, via.interface)
        group = self._groups.get(key)
        if group is None:
            address = self._addresses.take()
            if address is None:
                return None
            session = MulticastSession((address, PORT), size, agreed.blksize)
            group = Group(self._context, transfer.detach_reader(), via, session, lambda: self._closed(key, address))
            self._groups[key] = group
        elif len(group.transfers) >= MOST_MEMBERS:
            return None
        else:
            # The group has the same content open already.
            transfer.detach_reader().close()
        # The session writes the last item of the value, and says in each OACK what it is then.
        value = f"{group.session.address[0]},{PORT},{int(not group.transfers)}"
        return GroupTransfer.in_place_of(transfer, group), with_multicast(agreed, options, value)

    def _closed(self, key: Hashable, address: str) -> None:
        del self._groups[key]
        self._addresses.give_back(address)


def _identity(reader: Any, path: str) -> Hashable:
    """Return what is the same for two readers of the same content; None: that is not known."""
    try:
        if is_cacheable(reader):
            return content_key(reader)
    except OSError:
        return None
    etag = reader.etag if provides(reader, ICacheableReader) else None
    return (path, etag) if etag else None
