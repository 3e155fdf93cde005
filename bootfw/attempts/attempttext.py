"""A boot attempt in words: a line for each stage, for people."""

from collections.abc import Mapping
from typing import Any

from bootfw.attempts.attempt import BootAttempt, Stage, StageKind
from bootfw.attempts.symptoms import program


def stage_line(stage: Stage) -> str:
    """Return a stage as a line of text."""
    text = _LINES[stage.kind](stage.data)
    return f"{text}, {stage.count} times" if stage.count > 1 else text


def outcome_line(attempt: BootAttempt) -> str:
    """Return the verdict, and the cause where there is one."""
    verdict = attempt.verdict.value
    return f"{verdict}: {attempt.cause.sentence}" if attempt.cause is not None else verdict


def _message(name: str) -> Any:
    def line(data: Mapping[str, Any]) -> str:
        client = ", ".join(filter(None, (data.get("persona", ""), data.get("architecture", ""))))
        text = f"{name} by {client}"
        if data.get("stack") == "ipxe" and data.get("persona") != "ipxe":
            text += " (iPXE)"
        if data.get("relay"):
            text += f", through the relay {data['relay']}"
        if data.get("item") is not None:
            text += f", of menu item {data['item']}"
        return text

    return line


def _answer(name: str) -> Any:
    def line(data: Mapping[str, Any]) -> str:
        text = f"{name} of {data['address']}" if data.get("address") else name
        if data.get("boot_server"):
            return f"{text}: request the file of port 4011"
        if data.get("menu"):
            return f"{text}: a menu of {data['menu']}"
        text += f": load {_quoted(data.get('file', ''))}"
        return f"{text} from {data['server']}" if data.get("server") else text

    return line


def _resolver(data: Mapping[str, Any]) -> str:
    if data["outcome"] == "unavailable":
        return f"resolver {data['resolver']} could not decide: {data['reason']}"
    took = f"after {1000 * data['seconds']:.1f} ms"
    if data["outcome"] == "too slow":
        return f"resolver {data['resolver']} had no answer {took}, and was skipped"
    decision = f"a menu of {data['menu']}" if data.get("menu") else _quoted(data.get("file", ""))
    return f"resolver {data['resolver']}: {decision} {took}"


_OUTCOMES = {
    None: "is running",
    "complete": "complete",
    "unconfirmed": "complete, last ACK missing",
    "size_probe": "size probe",
    "stopped_by_peer": "stopped by the client",
    "timed_out": "timed out",
    "failed": "failed on this server",
    "cancelled": "ended by this server",
}


def _transfer(verb: str) -> Any:
    def line(data: Mapping[str, Any]) -> str:
        outcome = data.get("outcome")
        text = f"{data['protocol']} {verb} {_quoted(data['file'])}: {_OUTCOMES.get(outcome, outcome)}"
        if outcome not in (None, "size_probe"):
            of = f" of {data['size']}" if data.get("size") and data["size"] != data["bytes"] else ""
            text += f", {data['bytes']}{of} bytes in {data['seconds']:.2f} s"
        if data.get("blksize", 512) != 512:
            text += f", blksize {data['blksize']}"
        if data.get("retransmitted"):
            text += f", {data['retransmitted']} sent again"
        if data.get("waited", 0) >= 0.1:
            text += f", waited {data['waited']:.2f} s for {data.get('backend') or 'the backend'}"
        if data.get("detail"):
            text += f" ({data['detail']})"
        return text

    return line


def _refused(data: Mapping[str, Any]) -> str:
    verb = "put" if data.get("upload") else "get"
    text = f"{data['protocol']} {verb} {_quoted(data['file'])}: error {data['code']} {data['message']}"
    if data.get("detail"):
        text += f" ({data['detail']})"
    if data.get("nearest"):
        text += f"; there is {', '.join(map(_quoted, data['nearest']))}"
    return text


def _other_boot_server(data: Mapping[str, Any]) -> str:
    instruction = f"load {_quoted(data['file'])}" if data["file"] else "request its port 4011"
    return f"{data['server']} answers as well: {instruction}"


def _quoted(name: str) -> str:
    return f'"{name}"'


_LINES: Mapping[StageKind, Any] = {
    StageKind.DISCOVER: _message("DISCOVER"),
    StageKind.OFFER: _answer("OFFER"),
    StageKind.REQUEST: _message("REQUEST"),
    StageKind.ACK: _answer("ACK"),
    StageKind.BOOT_SERVER: _message("request on port 4011"),
    StageKind.BOOT_SERVER_REPLY: _answer("reply of port 4011"),
    StageKind.RESOLVER: _resolver,
    StageKind.NO_ANSWER: lambda data: f"no answer: {data['reason']}",
    StageKind.NO_FILE: lambda data: f"an address but no boot file: {data['reason']}",
    StageKind.NO_ADDRESS: lambda data: f"no address: {data['reason']}",
    StageKind.POOL_EXHAUSTED: lambda data: f"no free address in {data['network']}",
    StageKind.ADDRESS_DECLINED: lambda data: f"declined {data['address']}: another host uses it",
    StageKind.ADDRESS_REFUSED: lambda data: f"NAK: it can't have {data['address']}",
    StageKind.OTHER_SERVER: lambda data: f"accepted the offer of another DHCP server, {data['server']}",
    StageKind.OTHER_BOOT_SERVER: _other_boot_server,
    StageKind.TRANSFER: _transfer("get"),
    StageKind.UPLOAD: _transfer("put"),
    StageKind.REFUSED: _refused,
    StageKind.SECOND_STAGE: lambda data: f"found {_quoted(data['file'])} at {_quoted(data['path'])}",
    StageKind.PROGRAM: lambda data: (
        f"{_quoted(data['file'])} is {program(data['architecture'])}, and the machine is {data['client']}"
    ),
    StageKind.TLS: lambda data: f"no TLS connection: {data['reason']}",
    StageKind.PROBLEM: lambda data: f"fault of this server: {data['what']} ({data['doing']})",
    StageKind.LOOP: lambda data: f"a boot loop: the same files {data['times']} times in a row",
    StageKind.RESTART: lambda data: "the firmware starts again",
    StageKind.RETURNED: lambda data: f"{_quoted(data['file'])} has returned to the firmware in the boot before",
    StageKind.SYSTEM: lambda data: "the installed system requests an address",
    StageKind.REPORT: lambda data: f"{data['protocol']}: {data['what']}",
    StageKind.INSTALLATION: lambda data: f"the installer{' has failed' if data.get('failed') else ''}: {data['what']}",
    StageKind.UP: lambda data: "the installed system is up",
}
