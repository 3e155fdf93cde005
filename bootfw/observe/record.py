"""Converts an event to a flat dictionary of JSON values, for JSON logs, journald, webhooks and Twisted's observers."""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any

import attrs

from bootfw.attempts.attempt import BootAttempt
from bootfw.attempts.record import attempt_record
from bootfw.events import Event
from bootfw.values import BootFile, BootMenu, BootRequest, TransferReport, TransferRequest, address_text

Record = dict[str, Any]
"""Key -> string, number, boolean, None, or a list or dictionary of them."""

_OF_BOOT_REQUEST = (
    *("mac", "phase", "persona", "architecture", "uuid", "vendor_class", "user_classes", "ipxe", "http"),
    *("client_address", "relay_address", "interface", "xid", "family"),
)


def record(event: Event) -> Record:
    """Return the fields of *event* except its time, and the name of its class as ``event``.

    The fields of a request have the same keys in all events: ``mac``, ``persona``, ``architecture``, ``interface`` and
    so on for a DHCP request; ``protocol``, ``peer``, ``file`` and ``upload`` for a transfer. An address with a port
    becomes a string, an enum its name, bytes become hexadecimal digits. A boot file becomes its name as ``file`` and
    its server as ``server``; a menu becomes ``menu``, the list of its texts. A boot attempt becomes the object that
    ``bootfw boots --json`` prints.
    """
    report = getattr(event, "report", None)
    if type(report) is TransferReport:
        return _transfer(type(event).__name__, report)
    fields: Record = {"event": type(event).__name__}
    for name in _names(type(event)):
        if name != "at":
            _add(fields, name, getattr(event, name))
    return fields


def _transfer(name: str, report: TransferReport) -> Record:
    # Written out, because transfers are most of what a busy server logs: attrs.fields() would cost more.
    request, agreed = report.request, report.agreed
    return {
        "event": name,
        "protocol": request.protocol,
        "peer": address_text(request.peer),
        "file": text(request.filename),
        "upload": request.write,
        "outcome": report.outcome.name,
        "detail": report.detail,
        "bytes": report.bytes_transferred,
        "seconds": report.ended - report.began,
        "waited": report.waited,
        "backend": report.backend,
        "blksize": agreed.blksize,
        "windowsize": agreed.windowsize,
        "retransmitted": report.retransmitted,
        "persona": report.persona,
    }


def text(value: str) -> str:
    r"""Return *value* with ``\xff`` for each byte that is not UTF-8 (surrogateescape), which JSON can't contain."""
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _add(fields: Record, name: str, value: Any) -> None:
    """Add the attribute *name* of an event to *fields*, as one field or as several."""
    if isinstance(value, BootRequest):
        # A field of the event itself comes first, if the request has one of the same name.
        for part in _OF_BOOT_REQUEST:
            fields.setdefault(part, plain(getattr(value, part)))
    elif isinstance(value, TransferRequest):
        fields.update(
            protocol=value.protocol, peer=address_text(value.peer), file=text(value.filename), upload=value.write
        )
    elif isinstance(value, BootFile):
        fields.update(file=text(value.name), server=value.server or "")
    elif isinstance(value, BootAttempt):
        fields.setdefault("mac", value.mac)
        fields[name] = attempt_record(value)
    elif name == "leases" and len(value) == 1:
        (lease,) = value
        fields.update(mac=lease.mac, leases=[plain(lease)])
    elif isinstance(value, BootMenu):
        fields["menu"] = [text(item.description) for item in value.items]
    else:
        fields[name] = plain(value)


def plain(value: Any) -> Any:
    """Convert *value* to the types of JSON."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return address_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if attrs.has(type(value)):
        nested: Record = {}
        for name in _names(type(value)):
            _add(nested, name, getattr(value, name))
        return nested
    return text(str(value))


def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(attribute.name for attribute in attrs.fields(kind))


_names: Callable[[Any], tuple[str, ...]] = cache(_names_of)
