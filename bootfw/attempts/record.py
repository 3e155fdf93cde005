"""A boot attempt as plain data for JSON, and back: on the control socket, in the store, and for the web page."""

from collections.abc import Mapping
from typing import Any

from attrs import asdict

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict

Record = dict[str, Any]


def attempt_record(attempt: BootAttempt, *, stages: bool = True) -> Record:
    """Return *attempt* as JSON values.

    :param stages: false: leave out the stages, as in a list of attempts.
    """
    record: Record = {
        "id": attempt.id,
        "mac": attempt.mac,
        "uuid": attempt.uuid,
        "addresses": list(attempt.addresses),
        "interface": attempt.interface,
        "persona": attempt.persona,
        "architecture": attempt.architecture,
        "began": attempt.began,
        "ended": attempt.ended,
        "seconds": attempt.seconds,
        "verdict": attempt.verdict.value,
        "cause": asdict(attempt.cause) if attempt.cause is not None else None,
        "files": list(attempt.files),
        "bytes": attempt.bytes,
        "retries": dict(attempt.retries),
        "recording": attempt.recording,
    }
    if stages:
        record["stages"] = [_stage_record(stage) for stage in attempt.stages]
        record["omitted"] = attempt.omitted
    return record


def _stage_record(stage: Stage) -> Record:
    return {
        "at": stage.at,
        "kind": stage.kind.value,
        "count": stage.count,
        "until": stage.until,
        "data": dict(stage.data),
    }


def attempt_of(record: Mapping[str, Any]) -> BootAttempt:
    """Return the attempt that attempt_record() has made *record* of.

    :raise ValueError, KeyError, TypeError: *record* is something else.
    """
    cause = record["cause"]
    return BootAttempt(
        id=record["id"],
        began=record["began"],
        ended=record["ended"],
        mac=record["mac"],
        uuid=record["uuid"],
        addresses=tuple(record["addresses"]),
        persona=record["persona"],
        architecture=record["architecture"],
        interface=record["interface"],
        stages=tuple(
            Stage(each["at"], StageKind(each["kind"]), each["data"], each["count"], each["until"])
            for each in record.get("stages", ())
        ),
        omitted=record.get("omitted", 0),
        files=tuple(record["files"]),
        bytes=record["bytes"],
        retries=record["retries"],
        recording=record.get("recording", ""),
        listed_seconds=record["seconds"] if "stages" not in record else 0.0,
        verdict=Verdict(record["verdict"]),
        cause=Cause(**cause) if cause is not None else None,
    )
