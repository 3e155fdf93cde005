"""``bootfw replay``: answers the packets of a recording by a configuration, and shows what differs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from attrs import asdict, frozen

from bootfw.build import assemble
from bootfw.cli.dryrun import DryRun, result_of
from bootfw.cli.failure import CommandError
from bootfw.cli.ownaddress import own_address, web_urls
from bootfw.cli.shownoptions import shown_options, shown_options6
from bootfw.cli.snapshot import snapshot
from bootfw.config.configuration import load_config
from bootfw.errors import WireError
from bootfw.terminal import printable
from bootfw.wire import dhcp4, dhcp6, tftp
from bootfw.wire.pcapng import Datagram, Segment, read_pcapng

DIFFERS = 1
"""Exit code: an answer differs from the recorded one."""
MISUSED = 2
"""Exit code: the recording, the configuration or the command is wrong."""

ABOUT = """
Answers the requests of a recording (DHCP, TFTP, HTTP), which the server writes when a boot fails, as a configuration
would today, and shows where the answers differ from those that were recorded. It uses the configuration's own plugins,
leases and one-time boots, opens no port, sends no packet, and leaves one-time boots as they are.
"""
EPILOG = """
Example:
  bootfw replay /var/lib/bootfw/recordings/ID.pcapng -c /etc/bootfw/bootfw.toml

Exit codes: 0 every answer is the same, 1 one differs, 2 the recording, the configuration or the command is wrong.
"""

NO_ANSWER = "no answer"
_READ_REQUEST = b"\0\1"
_BLKSIZE = "option blksize"


@frozen
class Difference:
    """One request whose answer differs."""

    number: int
    """Of the request's packet in the file, from 1 on."""
    request: str
    what: str
    """The part of the answer that differs: the name of a field or an option."""
    recorded: str
    """"": it was not there."""
    now: str


def add_replay(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "replay",
        help="answer the packets of a recorded boot again, and show what differs",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", metavar="FILE", help="the recording, a pcapng file of the server")
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration to answer with")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_replay, failed=MISUSED)


def _replay(options: argparse.Namespace) -> int:
    try:
        packets = read_pcapng(Path(options.file).read_bytes())
    except WireError as error:
        raise CommandError(f"{options.file}: {error}") from None
    configuration = load_config(options.config, os.environ)
    stored = snapshot(configuration)
    from twisted.internet import reactor  # a plugin may connect to an API

    parts = assemble(configuration, reactor, stored.store)
    server = _server_address(packets)
    dry_run = DryRun(reactor, parts, configuration.settings, server, web_urls(configuration), stored.store)
    requests, found = result_of(reactor, _replay_packets(dry_run, packets))
    if options.json:
        record = {"requests": requests, "differences": [asdict(each) for each in found]}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        for each in found:
            line = (
                f"packet {each.number}, {each.request}: {each.what}: {each.recorded or 'none'} -> {each.now or 'none'}"
            )
            sys.stdout.write(printable(line) + "\n")
        differing = len({each.number for each in found})
        sys.stdout.write(f"{requests} requests, {differing} answered differently\n")
    return DIFFERS if found else 0


def _server_address(packets: list[Datagram]) -> str:
    """Return the address of the server in the recording."""
    for packet in packets:
        server = packet.source if packet.outbound else packet.destination
        if server[0] not in (dhcp4.UNSPECIFIED, "255.255.255.255", "::") and not server[0].startswith("ff"):
            return server[0]
    return own_address("")


async def _replay_packets(dry_run: DryRun, packets: list[Datagram]) -> tuple[int, list[Difference]]:
    differences: list[Difference] = []
    requests = 0
    answered: set[tuple[Any, ...]] = set()
    try:
        for number, packet in enumerate(packets, 1):
            later = packets[number:]
            if packet.outbound:
                continue
            if isinstance(packet, Segment):
                found = await _http_differences(dry_run, number, packet, later)
            elif dry_run.listens(packet.destination[1]):
                recorded = _answer_to(later, packet)
                exchange = await dry_run.replay(packet.data, packet.destination[1], packet.source)
                found = _dhcp_differences(number, packet.data, recorded, exchange.reply)
            elif packet.data[:2] == _READ_REQUEST and (packet.source, packet.data) not in answered:
                answered.add((packet.source, packet.data))  # not its retransmissions
                found = await _tftp_differences(dry_run, number, packet, later)
            else:
                continue
            requests += 1
            differences += found
    finally:
        await dry_run.close()
    return requests, differences


async def _tftp_differences(dry_run: DryRun, number: int, request: Datagram, later: list[Datagram]) -> list[Difference]:
    recorded = next((each.data for each in later if each.outbound and each.destination == request.source), b"")
    now = await dry_run.replay_tftp(request.data, request.source)
    before, after = _tftp_fields(recorded), _tftp_fields(now)
    name = f"TFTP {request.data[2:].split(bytes(1))[0].decode(errors='replace')}"
    if before.get("type") != after.get("type"):
        return [Difference(number, name, "answer", _shown_tftp(before), _shown_tftp(after))]
    return [
        Difference(number, name, field, before.get(field, ""), after.get(field, ""))
        for field in {**before, **after}
        if before.get(field) != after.get(field) and not _is_limited_by_mtu(field, before, after)
    ]


def _is_limited_by_mtu(field: str, before: dict[str, str], after: dict[str, str]) -> bool:
    """Return whether the recorded block size was smaller: the MTU of an interface may have limited it."""
    if field != _BLKSIZE or not {field} <= before.keys() & after.keys():
        return False
    sizes = before[field], after[field]
    return all(map(str.isdecimal, sizes)) and int(sizes[0]) < int(sizes[1])


def _tftp_fields(data: bytes) -> dict[str, str]:
    """Return the fields of a TFTP reply as texts. Of DATA only the type: the recording does not have the content."""
    if not data:
        return {"type": NO_ANSWER}
    try:
        packet = tftp.parse(data)
    except WireError:
        return {"bytes": data.hex()}
    if isinstance(packet, tftp.Error):
        return {"type": "ERROR", "code": str(packet.code), "message": packet.message}
    if isinstance(packet, tftp.OptionAck):
        return {"type": "OACK", **{f"option {name}": value for name, value in packet.options}}
    return {"type": type(packet).__name__.upper()}


def _shown_tftp(fields: dict[str, str]) -> str:
    return " ".join(filter(None, (fields.get("type", ""), fields.get("code", ""), fields.get("message", ""))))


async def _http_differences(dry_run: DryRun, number: int, request: Segment, later: list[Datagram]) -> list[Difference]:
    """Compare the status: the recording has no more of the response."""
    target = unquote(_second_word(request.data))
    response = next(each.data for each in (*later, request) if each.destination == request.source or each is request)
    recorded = _second_word(response) if response is not request.data else NO_ANSWER
    now = str(await dry_run.replay_http(target, request.source))
    return [] if recorded == now else [Difference(number, f"HTTP {target}", "status", recorded, now)]


def _second_word(head: bytes) -> str:
    """Return the target of an HTTP request, or the status of a response; "": there is none."""
    words = head.split(b" ")
    return words[1].decode("ascii", "replace") if len(words) > 1 else ""


def _answer_to(later: list[Datagram], request: Datagram) -> bytes:
    """Return the reply to *request*: the next packet of its transaction. b"": that is a retransmission, or none."""
    for packet in later:
        if _transaction(packet.data) == _transaction(request.data):
            return packet.data if packet.outbound else b""
    return b""


def _transaction(data: bytes) -> bytes:
    """Return bytes that a request and its reply have in common: the xid of DHCPv4; of DHCPv6 the three bytes after the
    type, which of a relayed message are not its transaction id but are repeated as well."""
    return data[4:8] if _is_dhcp4(data) else data[1:4]


def _is_dhcp4(data: bytes) -> bool:
    return data[236:240] == b"\x63\x82\x53\x63" or len(data) >= 300


def _dhcp_differences(number: int, request: bytes, recorded: bytes, now: bytes) -> list[Difference]:
    name = _fields(request).get("type", "request")
    if not recorded or not now:
        texts = [_fields(reply).get("type", "a reply") if reply else NO_ANSWER for reply in (recorded, now)]
        return [] if recorded == now else [Difference(number, name, "answer", texts[0], texts[1])]
    before, after = _fields(recorded), _fields(now)
    return [
        Difference(number, name, field, before.get(field, ""), after.get(field, ""))
        for field in {**before, **after}
        if before.get(field) != after.get(field)
    ]


def _fields(data: bytes) -> dict[str, str]:
    """Return the fields of a DHCP reply as texts, without those that are copied from the request."""
    try:
        if not _is_dhcp4(data):
            message6, _ = dhcp6.parse(data)
            options6 = [(f"option {code} {name}", value) for code, name, value in shown_options6(message6.options)]
            return {"type": message6.kind.name, **dict(options6)}
        message = dhcp4.parse(data)
    except WireError:
        return {"bytes": data.hex()}
    options = {f"option {code} {name}": value for code, name, value in shown_options(message.options)}
    kind = options.pop("option 53 message-type", "BOOTP")
    fields = {"type": kind, "address": message.yiaddr, "next server": message.siaddr}
    return {**fields, "file field": message.file.decode(errors="replace"), **options}
