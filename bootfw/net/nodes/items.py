"""The kinds of announcements, and their items: values of this service as JSON, and back.

A point in time is sent as how long ago it was, in seconds: each process has a clock of its own. Decoding ignores what a
later version has appended to an item.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

from bootfw.boot.secondstage import BootProgram
from bootfw.events import (
    Event,
    InstallationReported,
    SecondStageFound,
    SystemUp,
    TransferBegun,
    TransferEnded,
    TransferRefused,
)
from bootfw.net.nodes.announcements import Unreadable
from bootfw.values import Address, Agreed, Client, Mode, Outcome, TransferReport, TransferRequest

EVENTS = "events"
"""What has happened to transfers, see event_item()."""

RUNNING = "running"
"""TFTP transfers that are under way: each is the item of its TransferBegun, where ``acked`` is the present position."""

POSITIONS = "positions"
"""Positions in files of more than 65,535 blocks: client, the block that it has acknowledged, and when that was, by the
clock of its node."""

CLIENTS = "clients"
"""Machines that DHCP has seen, see client_item()."""

PROGRAMS = "programs"
"""Boot programs that clients have loaded, see program_item()."""

GENERATED = "generated"
"""Parts of generated files, see generated_items()."""

_Value = TypeVar("_Value")
_Member = TypeVar("_Member", bound=Enum)


class Fields:
    """Takes the fields of an item, one after the other.

    :raise Unreadable: each method, if the next field is missing or of another type.
    """

    def __init__(self, item: Any) -> None:
        if not isinstance(item, list):
            raise Unreadable(f"{item!r:.100} is no list")
        self._fields = iter(item)

    def _next(self, kind: type[_Value]) -> _Value:
        # Not isinstance(): JSON's true would pass as the number 1.
        value = next(self._fields, None)
        if type(value) is not kind:
            raise Unreadable(f"{value!r:.100} is no {kind.__name__}")
        return value

    def text(self) -> str:
        return self._next(str)

    def number(self) -> int:
        value = self._next(int)
        if value < 0:
            raise Unreadable(f"{value} is negative")
        return value

    def number_or_none(self) -> int | None:
        value = next(self._fields, None)
        if value is not None and (type(value) is not int or value < 0):
            raise Unreadable(f"{value!r:.100} is no number")
        return value

    def text_or_none(self) -> str | None:
        value = next(self._fields, None)
        if value is not None and type(value) is not str:
            raise Unreadable(f"{value!r:.100} is no text")
        return value

    def flag(self) -> bool:
        return self._next(bool)

    def seconds(self) -> float:
        value = next(self._fields, None)
        # JSON of Python has NaN and infinities; they fail the comparisons, and so can't get into a deadline.
        if isinstance(value, int | float) and -1e12 < value < 1e12:
            return float(value)
        raise Unreadable(f"{value!r:.100} is no time")

    def member(self, kind: type[_Member]) -> _Member:
        name = self.text()
        try:
            return kind[name]
        except KeyError:
            raise Unreadable(f"{name!r:.100} is no {kind.__name__}") from None

    def fields(self) -> "Fields":
        return Fields(next(self._fields, None))

    def options(self) -> tuple[tuple[str, str], ...]:
        pairs = self._next(list)
        options = []
        for pair in pairs:
            if not isinstance(pair, list) or [type(each) for each in pair] != [str, str]:
                raise Unreadable(f"{pair!r:.100} is no option")
            options.append((pair[0], pair[1]))
        return tuple(options)

    def peer(self) -> Address:
        return peer_of(next(self._fields, None))


def peer_of(value: Any) -> Address:
    """Decode the address of a client.

    :raise Unreadable: it is none.
    """
    if not isinstance(value, list) or len(value) not in (2, 4):
        raise Unreadable(f"{value!r:.100} is no address")
    host, port, *more = value
    if type(host) is not str or not all(type(number) is int and 0 <= number < 1 << 32 for number in value[1:]):
        raise Unreadable(f"{value!r:.100} is no address")
    return (host, port, more[0], more[1]) if more else (host, port)


def _ago(now: float, at: float) -> float:
    return round(now - at, 6)


def event_item(event: Event, now: float) -> list[object] | None:
    """Encode an event of those that other nodes need; None: it is not one of them."""
    encode = _ENCODERS.get(type(event))
    return None if encode is None else encode(event, now)


def event_of(item: Any, now: float) -> Event | None:
    """Decode an event. None: it is of a kind that this version does not know.

    :raise Unreadable: it is of another shape.
    """
    fields = Fields(item)
    decode = _DECODERS.get(fields.text())
    return None if decode is None else decode(fields, now)


def _request(request: TransferRequest) -> list[object]:
    return [
        list(request.peer),
        request.filename,
        request.path,
        request.local,
        request.protocol,
        request.mode.name,
        request.write,
        request.ignore_case,
        [list(option) for option in request.options],
    ]


def _request_of(fields: Fields) -> TransferRequest:
    peer, filename, path, local, protocol = (
        fields.peer(),
        fields.text(),
        fields.text(),
        fields.text(),
        fields.text(),
    )
    mode, write, ignore_case = fields.member(Mode), fields.flag(), fields.flag()
    return TransferRequest(filename, path, peer, local, write, mode, fields.options(), protocol, ignore_case)


def _agreed(agreed: Agreed) -> list[object]:
    return [
        agreed.blksize,
        agreed.windowsize,
        agreed.timeout,
        agreed.tsize,
        [list(option) for option in agreed.acknowledged],
    ]


def _agreed_of(fields: Fields) -> Agreed:
    blksize, windowsize = fields.number(), fields.number()
    if not (8 <= blksize <= 65464 and 1 <= windowsize <= 65535):  # RFC 2348, RFC 7440
        raise Unreadable(f"there is no block size {blksize} with windows of {windowsize}")
    return Agreed(blksize, windowsize, fields.number_or_none(), fields.number_or_none(), fields.options())


def begun_item(event: TransferBegun, now: float) -> list[object]:
    """Encode that a transfer has begun."""
    return ["begun", _ago(now, event.at), _request(event.request), _agreed(event.agreed), event.etag, event.acked]


def _begun_of(fields: Fields, now: float) -> TransferBegun:
    at = now - fields.seconds()
    request, agreed = _request_of(fields.fields()), _agreed_of(fields.fields())
    return TransferBegun(at, request, agreed, fields.text(), fields.number_or_none())


def _ended(event: TransferEnded, now: float) -> list[object]:
    report = event.report
    return [
        "ended",
        _ago(now, event.at),
        _request(report.request),
        _agreed(report.agreed),
        report.outcome.name,
        report.detail,
        report.bytes_transferred,
        report.blocks,
        report.retransmitted,
        _ago(now, report.began),
        report.persona,
        report.waited,
        report.backend,
    ]


def _ended_of(fields: Fields, now: float) -> TransferEnded:
    at = now - fields.seconds()
    report = TransferReport(
        request=_request_of(fields.fields()),
        agreed=_agreed_of(fields.fields()),
        outcome=fields.member(Outcome),
        detail=fields.text(),
        bytes_transferred=fields.number(),
        blocks=fields.number(),
        retransmitted=fields.number(),
        began=now - fields.seconds(),
        ended=at,
        persona=fields.text(),
        waited=fields.seconds(),
        backend=fields.text(),
    )
    return TransferEnded(at, report)


def _refused(event: TransferRefused, now: float) -> list[object]:
    return [
        "refused",
        _ago(now, event.at),
        _request(event.request),
        event.code,
        event.message,
        event.detail,
        event.persona,
    ]


def _refused_of(fields: Fields, now: float) -> TransferRefused:
    at, request = now - fields.seconds(), _request_of(fields.fields())
    return TransferRefused(at, request, fields.number(), fields.text(), fields.text(), fields.text())


def _second_stage(event: SecondStageFound, now: float) -> list[object]:
    return ["second-stage", _ago(now, event.at), _request(event.request), event.path]


def _second_stage_of(fields: Fields, now: float) -> SecondStageFound:
    return SecondStageFound(now - fields.seconds(), _request_of(fields.fields()), fields.text())


def _up(event: SystemUp, now: float) -> list[object]:
    return ["up", _ago(now, event.at), list(event.peer), event.mac, event.protocol]


def _up_of(fields: Fields, now: float) -> SystemUp:
    return SystemUp(now - fields.seconds(), fields.peer(), fields.text(), fields.text())


def _installation(event: InstallationReported, now: float) -> list[object]:
    return ["installation", _ago(now, event.at), list(event.peer), event.mac, event.what, event.failed]


def _installation_of(fields: Fields, now: float) -> InstallationReported:
    return InstallationReported(now - fields.seconds(), fields.peer(), fields.text(), fields.text(), fields.flag())


_ENCODERS: dict[type[Event], Callable[[Any, float], list[object]]] = {
    TransferBegun: begun_item,
    TransferEnded: _ended,
    TransferRefused: _refused,
    SecondStageFound: _second_stage,
    SystemUp: _up,
    InstallationReported: _installation,
}
_DECODERS: dict[str, Callable[[Fields, float], Event]] = {
    "begun": _begun_of,
    "ended": _ended_of,
    "refused": _refused_of,
    "second-stage": _second_stage_of,
    "up": _up_of,
    "installation": _installation_of,
}


def client_item(client: Client) -> list[object]:
    """Encode a machine that DHCP has seen."""
    return [
        client.address,
        client.mac,
        client.uuid,
        client.architecture,
        client.persona,
        client.vendor_class,
        client.ipxe,
        client.http,
        client.leased,
    ]


def client_of(item: Any) -> Client:
    """Decode a machine.

    :raise Unreadable: it is of another shape.
    """
    fields = Fields(item)
    return Client(
        fields.text(),
        fields.text(),
        fields.text_or_none(),
        fields.text(),
        fields.text(),
        fields.text(),
        fields.flag(),
        fields.flag(),
        fields.flag(),
    )


def program_item(client: str, program: BootProgram, now: float) -> list[object]:
    """Encode the boot program that the client at an address has loaded."""
    ages = _ago(now, program.loaded), _ago(now, program.last_request)
    return [client, program.path, program.backend, program.is_shim, *ages]


def program_of(item: Any, now: float) -> tuple[str, BootProgram]:
    """Decode a boot program: (address of the client, program).

    :raise Unreadable: it is of another shape.
    """
    fields = Fields(item)
    client, path, backend, shim = fields.text(), fields.text(), fields.number(), fields.flag()
    return client, BootProgram(path, backend, shim, now - fields.seconds(), now - fields.seconds())


def position_item(peer: Address, block: int, at: float) -> list[object]:
    """Encode a position."""
    return [list(peer), block, round(at, 3)]


def positions_of(items: Sequence[Any]) -> list[tuple[Address, int, float]]:
    """Decode positions.

    :raise Unreadable: they are of another shape.
    """
    return [(fields.peer(), fields.number(), fields.seconds()) for fields in map(Fields, items)]
