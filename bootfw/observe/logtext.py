"""Formats a log event: as a line of text, as JSON, or as a datagram for journald."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from time import localtime, strftime, time
from typing import Any

from twisted.logger import LogEvent, LogLevel, eventAsText, formatEvent

from bootfw.observe.record import plain

PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
"""Levels of syslog (RFC 5424 section 6.2.1)."""


def as_text(event: LogEvent) -> str:
    """Return the line that Twisted would write, with its line feed: time, namespace and level, text.

    If the text has several lines, those after the first are indented.
    """
    line = event.get("line")
    if line is None or event.get("log_format") != "{line}":
        text: str = eventAsText(event)
        return text.replace("\n", "\n\t") + "\n" if text else ""
    if "\n" in line:
        line = line.replace("\n", "\n\t")
    return f"{_stamp(int(event['log_time']))} [{event['log_namespace']}#{event['log_level'].name}] {line}\n"


@lru_cache(maxsize=4)
def _stamp(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S%z", localtime(second))


def as_json(event: LogEvent) -> str:
    """Return one JSON object on one line: ``time``, ``level``, ``text``, and the fields of the event."""
    text = _text(event)
    return json.dumps(json_record(event, text)) + "\n" if text else ""


def json_record(event: LogEvent, text: str) -> dict[str, Any]:
    """Return the dictionary that as_json() encodes.

    :param text: the text of the event, see bootfw.observe.log.
    """
    head = {"time": iso_time(event.get("log_time") or time()), "level": _level(event).name, "text": plain(text)}
    if event.get("log_namespace") not in (None, "bootfw"):
        head["source"] = event["log_namespace"]
    return head | {key: value for key, value in _fields(event) if key not in head}


def iso_time(seconds: float) -> str:
    """Format *seconds* since the epoch by ISO 8601: in UTC, with microseconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def as_datagram(event: LogEvent) -> bytes:
    """Return the datagram for journald's native protocol, or b"" if the event has no text.

    The key of a field is ``BOOTFW_`` and its name in upper case; fields without a value are left out.
    """
    text = _text(event)
    if not text:
        return b""
    parts = [
        _entry("MESSAGE", text),
        _entry("PRIORITY", str(PRIORITIES[_level(event)])),
        _entry("SYSLOG_IDENTIFIER", "bootfw"),
    ]
    for key, value in _fields(event):
        if value is None or value == "" or value == []:
            continue
        if not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        parts.append(_entry(f"BOOTFW_{_NO_NAME.sub('_', key.upper())}"[:64], value))
    return b"".join(parts)


_NO_NAME = re.compile("[^A-Z0-9_]")
"""A character that the name of a journald field must not contain."""


def _entry(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    # A value with line feeds is preceded by its length instead.
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


def _level(event: LogEvent) -> Any:
    return event.get("log_level") or LogLevel.info


def _text(event: LogEvent) -> str:
    """Return the text without time and level, followed by the traceback if it is a failure."""
    if "log_failure" in event:
        return eventAsText(event, includeTimestamp=False, includeSystem=False)
    return event.get("line") or formatEvent(event)


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    if "log_legacy" in event:  # from twisted.python.log, whose keys repeat the text
        return
    for key, value in event.items():
        if not key.startswith("log_") and key != "line":
            yield key, plain(value)
