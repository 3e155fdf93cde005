"""Why a boot failed: a table of symptoms, each with what must be true of the stages, a sentence and a remedy.

The first row that applies is the cause. A row is about what the client did *last*: a file that it lacked, and went on
without, is no failure. Loaders look for many files that need not exist, UEFI firmware requests a file's size before it
loads it, and a lossy link makes clients repeat themselves; none of these is a symptom by itself.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from attrs import frozen

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.filekinds import is_optional, is_payload, is_program
from bootfw.values import OACK_UNANSWERED, PROBE_UUIDS
from bootfw.wire.executable import NO_EFI
from bootfw.wire.iana import NETWORK_GEAR

SMALL_BLOCK = 512
"""Bytes: a block of this size passes every network that IPv4 runs on (576 bytes, RFC 791)."""

SAME_FILE = 3
"""A client that has loaded the same boot program so many times in one boot is in a loop."""

RETURNED_WITHIN = 30.0
"""Seconds from the last packet of a boot program to the next start of its firmware. What takes longer may be a person
who switches the machine off, or a program that has done its work."""

PROGRAM_RETURNED = "program-returned"
"""Key of a cause: the firmware has started again right after its boot program."""

SLOW = 4.0
"""Seconds that a resolver may take: EDK2 leaves its first OFFER window after 4 s, iPXE after 3 s (both measured)."""

_LOADED = ("complete", "unconfirmed")
_SERVER_FAULTS = (0, 500, 502, 503, 504)
"""TFTP's "not defined", and HTTP's: whatever is wrong is not the request."""


class Facts:
    """What the rows test, of one attempt. Each is computed when the first row needs it."""

    def __init__(self, attempt: BootAttempt) -> None:
        self.attempt = attempt
        self.stages = attempt.stages

    def all(self, *kinds: StageKind) -> list[Stage]:
        """Return the stages of these kinds."""
        return [stage for stage in self.stages if stage.kind in kinds]

    @cached_property
    def loaded(self) -> list[Stage]:
        """The transfers that were complete, in the order of their ends."""
        transfers = self.all(StageKind.TRANSFER)
        return sorted((transfer for transfer in transfers if transfer.data.get("outcome") in _LOADED), key=_end)

    @cached_property
    def tail(self) -> list[Stage]:
        """The stages after the last complete file, in the order of their ends; all stages, if there is none."""
        if not self.loaded:
            return sorted(self.stages, key=_end)
        last = self.loaded[-1]
        after = [stage for stage in self.stages if stage is not last and _end(stage) >= last.until]
        return sorted((each for each in after if each.data.get("outcome") not in _LOADED), key=_end)

    @cached_property
    def has_payload(self) -> bool:
        """Whether a kernel, a RAM disk or an image is loaded. What a loader tries later need not exist."""
        return any(is_payload(stage.data["file"]) for stage in self.loaded)

    @cached_property
    def broken_transfer(self) -> Stage | None:
        """The last transfer, if it was incomplete, and its file was not loaded by another one."""
        files = {stage.data["file"] for stage in self.loaded}
        for stage in reversed(self.tail):
            if stage.kind is StageKind.TRANSFER and stage.data.get("outcome") not in (None, "cancelled"):
                if stage.data["file"] in files or self._is_abandoned(stage):
                    continue
                if self.has_payload and not is_payload(stage.data["file"]):
                    return None
                if stage.data["protocol"] != "tftp" and self.loaded and stage.data["outcome"] == "stopped_by_peer":
                    return None  # GRUB and installers read the beginnings of files by HTTP
                return stage
        return None

    def _is_abandoned(self, stage: Stage) -> bool:
        """Return whether the client has loaded another file since this transfer began: by TFTP it reads one at a time.

        When it ends a transfer early and that packet is lost, the server goes on until it times out.
        """
        return stage.data["protocol"] == "tftp" and any(each.at > stage.at for each in self.loaded)

    @cached_property
    def refusal(self) -> Stage | None:
        """The last refusal that matters: after it nothing was loaded, and the client can't do without the file."""
        for stage in reversed(self.tail):
            if stage.kind is not StageKind.REFUSED or stage.data.get("upload"):
                continue
            file = stage.data["file"]
            needed = not is_optional(file) or file in self.named_files
            if needed and (not self.has_payload or is_payload(file)):
                return stage
        return None

    @cached_property
    def failed_upload(self) -> Stage | None:
        """The last upload that was not stored."""
        for stage in reversed(self.tail):
            if stage.kind is StageKind.UPLOAD and stage.data.get("outcome") not in (None, "cancelled", *_LOADED):
                return stage
            if stage.kind is StageKind.REFUSED and stage.data.get("upload"):
                return stage
        return None

    def last(self, *kinds: StageKind) -> Stage | None:
        """Return the last stage of these kinds in the tail; None: there is none."""
        return next((stage for stage in reversed(self.tail) if stage.kind in kinds), None)

    @cached_property
    def has_requested_file(self) -> bool:
        """Whether the client has requested a file, to load or to store."""
        return bool(self.all(StageKind.TRANSFER, StageKind.REFUSED, StageKind.UPLOAD))

    @cached_property
    def naming_stage(self) -> Stage | None:
        """The last of our replies that named a boot file."""
        kinds = (StageKind.OFFER, StageKind.ACK, StageKind.BOOT_SERVER_REPLY)
        return next((stage for stage in reversed(self.all(*kinds)) if stage.data.get("file")), None)

    @cached_property
    def named_files(self) -> set[str]:
        """The paths of the boot files that our replies named."""
        kinds = (StageKind.OFFER, StageKind.ACK, StageKind.BOOT_SERVER_REPLY)
        names = [stage.data.get("file", "") for stage in self.all(*kinds)]
        return {name.partition("://")[2].partition("/")[2] or name.lstrip("/") for name in names}

    @cached_property
    def other_host(self) -> str:
        """The host of the boot file that was named last; "": it is this one."""
        return str(self.naming_stage.data.get("server", "")) if self.naming_stage is not None else ""


def _end(stage: Stage) -> float:
    return stage.until or stage.at


Found = Stage | bool | None


@frozen
class Symptom:
    """A row of the table."""

    key: str
    applies: Callable[[Facts], Found]
    """Returns a stage, whose data are filled into the sentence, or true; None or false: it does not apply."""
    sentence: str
    remedy: str
    source: str
    """Where the symptom was seen, or what specifies it."""
    verdict: Verdict = Verdict.FAILED
    fill: Callable[[Facts, Stage], dict[str, Any]] = lambda facts, stage: {}
    """Computes further values for the sentence and the remedy."""

    def cause(self, facts: Facts, found: Found) -> Cause:
        """Return the cause, with the values of *found* filled in."""
        stage = found if isinstance(found, Stage) else Stage(0.0, StageKind.PROBLEM)
        values = {**stage.data, **self.fill(facts, stage)}
        return Cause(self.key, self.sentence.format_map(_Values(values)), self.remedy.format_map(_Values(values)))


class _Values(dict[str, Any]):
    """What is filled into a sentence. A value that is missing, as in a record of another version, is shown as "?"."""

    def __missing__(self, key: str) -> str:
        return "?"


# What must be true.


def _installation(facts: Facts, failed: bool) -> Found:
    stage = next(iter(reversed(facts.all(StageKind.INSTALLATION))), None)
    return stage if stage is not None and bool(stage.data.get("failed")) == failed else None


def _disk_full(facts: Facts) -> Found:
    stage = facts.failed_upload
    if stage is None:
        return None
    text = f"{stage.data.get('message', '')} {stage.data.get('detail', '')}".lower()
    return stage if stage.data.get("code") in (3, 507) or "full" in text or "no space" in text else None


def _broken(outcome: str, condition: Callable[[Facts, Stage], bool] = lambda facts, stage: True) -> Any:
    def applies(facts: Facts) -> Found:
        stage = facts.broken_transfer
        return stage if stage is not None and stage.data["outcome"] == outcome and condition(facts, stage) else None

    return applies


def _first_block_lost(facts: Facts, stage: Stage) -> bool:
    data = stage.data
    oack_answered = data.get("oack") and data.get("detail") != OACK_UNANSWERED
    return bool(oack_answered and not data["blocks"] and data["blksize"] > SMALL_BLOCK)


def _nothing_acknowledged(facts: Facts, stage: Stage) -> bool:
    return not stage.data["bytes"]


def _refused(condition: Callable[[Stage], bool]) -> Any:
    return lambda facts: facts.refusal if facts.refusal is not None and condition(facts.refusal) else None


def _is_missing(stage: Stage) -> bool:
    return stage.data["code"] in (1, 404, 410) and not stage.data.get("detail")


def _is_fault(stage: Stage) -> bool:
    return bool(stage.data.get("detail")) or stage.data["code"] in _SERVER_FAULTS


def _tls(word: str = "") -> Callable[[Facts], Found]:
    def applies(facts: Facts) -> Found:
        stage = facts.last(StageKind.TLS)
        return stage if stage is not None and word in stage.data["reason"] else None

    return applies


def _wrong_architecture(facts: Facts) -> Found:
    stage = next(iter(facts.all(StageKind.PROGRAM)), None)
    if stage is None or not facts.loaded or facts.loaded[-1].data["file"] != stage.data["file"]:
        return None
    return stage


def _rejected(facts: Facts) -> Found:
    """Firmware that has loaded its boot program by TFTP, and then goes on with its next way to boot, HTTP.

    By that it may load the same program again, and no more runs it then.
    """
    if not facts.loaded or not is_program(facts.loaded[0].data["file"]) or len(facts.attempt.files) > 1:
        return None
    first = facts.loaded[0]
    later = [stage for stage in facts.all(StageKind.DISCOVER) if stage.at > first.until]
    if first.data["protocol"] != "tftp" or {stage.data["stack"] for stage in later} != {"http"}:
        return None
    return first


def _empty(facts: Facts) -> Found:
    if not facts.loaded:
        return None
    last = facts.loaded[-1]
    data, file = last.data, last.data["file"]
    # Without the last ACK, no byte of a file of one block counts as acknowledged.
    if data["bytes"] or (data["outcome"] == "unconfirmed" and data.get("size") != 0):
        return None
    return last if is_program(file) or is_payload(file) or file in facts.named_files else None


def _returned(facts: Facts) -> Found:
    """A boot program that did not run, or has ended: its firmware starts from the beginning."""
    restart = facts.last(StageKind.RESTART)
    if restart is None or restart.data["seconds"] > RETURNED_WITHIN or not facts.loaded or facts.has_payload:
        return None
    known = facts.attempt.architecture not in ("", NETWORK_GEAR)  # gear loads its system, and starts with it
    return restart if known and is_program(facts.loaded[-1].data["file"]) else None


def _returned_again(facts: Facts) -> Found:
    """The last round of a loop of such restarts, which ends when the machine is switched off or runs out of retries:
    the same program, and nothing after it."""
    before = next(iter(facts.all(StageKind.RETURNED)), None)
    if before is None or not facts.loaded or facts.attempt.files != (before.data["file"],):
        return None
    requests = facts.all(StageKind.DISCOVER, StageKind.REQUEST, StageKind.BOOT_SERVER)
    return before if all(_end(each) <= facts.loaded[-1].at for each in requests) else None


def _without_next_file(facts: Facts) -> Found:
    """A boot program that has nothing to load: its own DHCP requests got no file."""
    stage = facts.last(StageKind.NO_FILE, StageKind.NO_ANSWER)
    if stage is None or not facts.loaded or facts.has_payload or not is_program(facts.loaded[-1].data["file"]):
        return None
    return None if facts.naming_stage is not None and _end(facts.naming_stage) > _end(stage) else stage


def _circle(facts: Facts) -> Found:
    if not facts.loaded or facts.has_payload:
        return None
    last = facts.loaded[-1]
    same = [stage for stage in facts.loaded if stage.data["file"] == last.data["file"]]
    return last if is_program(last.data["file"]) and len(same) >= SAME_FILE else None


def _unless_leased(*kinds: StageKind) -> Callable[[Facts], Found]:
    """Return a condition: the last stage of these kinds, if the client got no address here after it and no file."""

    def applies(facts: Facts) -> Found:
        stage = next(iter(reversed(facts.all(*kinds))), None)
        leased = facts.all(StageKind.ACK, StageKind.NO_FILE)
        if stage is None or facts.has_requested_file or any(_end(each) > _end(stage) for each in leased):
            return None
        return stage

    return applies


def _unless_named(*kinds: StageKind) -> Callable[[Facts], Found]:
    """Return a condition: the last stage of these kinds, if no file was named or requested after it."""

    def applies(facts: Facts) -> Found:
        stage = next(iter(reversed(facts.all(*kinds))), None)
        if (
            stage is None
            or facts.has_requested_file
            or (facts.naming_stage is not None and _end(facts.naming_stage) > _end(stage))
        ):
            return None
        return stage

    return applies


def _slow_resolver(facts: Facts) -> Found:
    if facts.has_requested_file:
        return None
    for stage in reversed(facts.all(StageKind.RESOLVER)):
        late = stage.data["outcome"] == "too slow" and not (
            facts.naming_stage and _end(facts.naming_stage) > _end(stage)
        )
        if late or stage.data.get("seconds", 0.0) >= SLOW:
            return stage
    return None


def _unavailable_resolver(facts: Facts) -> Found:
    found = [each for each in facts.all(StageKind.RESOLVER) if each.data["outcome"] == "unavailable"]
    if not found or facts.has_requested_file or (facts.naming_stage and _end(facts.naming_stage) >= _end(found[-1])):
        return None
    return found[-1]


def _no_4011(facts: Facts) -> Found:
    offers = [stage for stage in facts.all(StageKind.OFFER) if stage.data.get("boot_server")]
    if facts.has_requested_file or not offers or facts.all(StageKind.BOOT_SERVER) or _repeats_discover(facts):
        return None
    return offers[-1]


def _repeats_discover(facts: Facts) -> bool:
    """Return whether the client repeats its DISCOVER although it was answered."""
    return any(stage.count >= 3 for stage in facts.all(StageKind.DISCOVER))


def _no_request(facts: Facts) -> Found:
    offers = facts.all(StageKind.OFFER)
    if facts.has_requested_file or not offers or facts.all(StageKind.REQUEST, StageKind.ACK, StageKind.BOOT_SERVER):
        return None
    return offers[-1] if offers[-1].data.get("address") or _repeats_discover(facts) else None


def _probe(facts: Facts) -> Found:
    return (
        facts.attempt.uuid.startswith(PROBE_UUIDS) and not facts.has_requested_file and facts.naming_stage is not None
    )


def _other_boot_server(facts: Facts) -> Found:
    stages = facts.all(StageKind.OTHER_BOOT_SERVER)
    return stages[-1] if stages and (_no_4011(facts) or _no_file_request(facts)) else None


def _no_file_request(facts: Facts) -> Found:
    return None if facts.has_requested_file or facts.other_host else facts.naming_stage


def _menu(facts: Facts) -> Found:
    if facts.has_requested_file:
        return None
    menus = [each for each in facts.all(StageKind.OFFER, StageKind.ACK) if each.data.get("menu")]
    return menus[-1] if menus and not facts.all(StageKind.BOOT_SERVER) else None


def _unanswered(facts: Facts) -> Found:
    answers = (StageKind.OFFER, StageKind.ACK, StageKind.NO_FILE, StageKind.BOOT_SERVER_REPLY)
    return not facts.has_requested_file and not facts.all(*answers) and next(iter(facts.all(StageKind.DISCOVER)), None)


# What fills the sentences.


def _nearest(facts: Facts, stage: Stage) -> dict[str, Any]:
    names = stage.data.get("nearest", ())
    where = f"the nearest names that exist are {_listed(names)}" if names else "nothing like it exists"
    return {"where": where}


def _listed(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _progress(facts: Facts, stage: Stage) -> dict[str, Any]:
    data = stage.data
    sent = max(1, data.get("blocks", 0) + data.get("retransmitted", 0))
    of = f" of {data['size']}" if data.get("size") else ""
    share = 100 * data.get("retransmitted", 0) // sent
    return {"progress": f"{data['bytes']}{of} bytes", "share": share}


def _packet(facts: Facts, stage: Stage) -> dict[str, Any]:
    return {"packet": stage.data["blksize"] + 32}  # IPv4, UDP and TFTP headers: 20, 8 and 4 bytes


def _refusal_reason(facts: Facts, stage: Stage) -> dict[str, Any]:
    return {"why": stage.data.get("detail") or stage.data.get("message", "")}


def _other(facts: Facts, stage: Stage) -> dict[str, Any]:
    servers = [each.data["server"] for each in facts.all(StageKind.OTHER_SERVER, StageKind.OTHER_BOOT_SERVER)]
    return {"others": f"; another server, {servers[-1]}, is there" if servers else ""}


def program(architecture: str) -> str:
    """Return what a boot program is, in words.

    :param architecture: as machine_of() returns it.
    """
    return architecture if architecture == NO_EFI else f"a program for {architecture}"


def _times(facts: Facts, stage: Stage) -> dict[str, Any]:
    return {"loads": sum(1 for each in facts.loaded if each.data["file"] == stage.data["file"])}


_LOOK_AT_THE_PROGRAM = (
    "the program did not run, or has ended; the console of the machine shows why. With Secure Boot on it has to be "
    "signed (shim); otherwise it is damaged, or for another machine"
)
_BOOT_ORDER_AGAIN = "rhboot/shim 44; firmware that tries its boot order again after a program that it refuses"
_MAAS_BADS = "MAAS, table of known bad networks (discourse.maas.io 14978): rogue DHCP, relay, spanning tree, MTU"
_RETRIES = "retry timing of firmware, measured under QEMU (EDK2, iPXE, GRUB, U-Boot)"

SYMPTOMS: Sequence[Symptom] = (
    Symptom(
        "installation-failed",
        lambda facts: _installation(facts, failed=True),
        "could not be installed: {what}",
        "see the console of the machine, which may try it again",
        "docs/howto/images/disk.md",
    ),
    Symptom(
        "installation-silent",
        lambda facts: _installation(facts, failed=False),
        "has reported nothing more of its installation: {what}",
        "see the console of the machine; if it was switched off, install it again",
        "docs/howto/images/disk.md",
    ),
    Symptom(
        "loop-broken",
        lambda facts: facts.last(StageKind.LOOP) or next(iter(facts.all(StageKind.LOOP)), None),
        "loaded the same files {times} times in a row, so it boots its own disk for a while",
        'end the installation with "bootfw next" or a one-time boot; "bootfw next --forgive" ends the pause at once',
        "danderson/netboot 134, cobbler 3329: machines that install for ever",
        Verdict.NOTHING_TO_BOOT,
    ),
    Symptom(
        "disk-full",
        _disk_full,
        'could not store "{file}": the disk of this server is full',
        "free some space below the directory of the upload backend",
        "RFC 1350 error code 3",
    ),
    Symptom(
        "upload-failed",
        lambda facts: facts.failed_upload,
        'could not store "{file}": {why}',
        "see the log of this server, and the options of the upload backend",
        "RFC 1350 section 5",
        fill=_refusal_reason,
    ),
    Symptom(
        "certificate-expired",
        _tls("expired"),
        "refused our certificate as expired: {reason}",
        "renew the certificate of [http], and check the clock of the machine",
        "ipxe 1514, tianocore/edk2 12651",
    ),
    Symptom(
        "certificate-revoked",
        _tls("revoked"),
        "refused our certificate as revoked: {reason}",
        "give [http] a certificate that its issuer has not revoked",
        "RFC 8446 section 6.2: certificate_revoked",
    ),
    Symptom(
        "tls-refused",
        _tls(),
        "could not agree with us on TLS: {reason}",
        "enroll the issuer of the certificate in the firmware or in iPXE, and name the host in the URL as the "
        "certificate does",
        "ipxe 1728, tianocore/edk2 12651, pftf/RPi4 13",
    ),
    Symptom(
        "backend-failed",
        _refused(_is_fault),
        'requested "{file}", and this server could not read it: {why}',
        "see the log of this server: the fault is on our side",
        "RFC 1350 error code 0, HTTP 500",
        fill=_refusal_reason,
    ),
    Symptom(
        "backend-failed",
        _broken("failed"),
        'this server could not read "{file}" to its end: {why}',
        "see the log of this server: the fault is on our side",
        "RFC 1350 error code 0",
        fill=_refusal_reason,
    ),
    Symptom(
        "missing-file",
        _refused(_is_missing),
        'stopped after it requested "{file}", which does not exist: {where}',
        "put the file there, or correct its name in the configuration of the loader",
        "netbootxyz/docker-netbootxyz 97, shim 524: autoexec.ipxe and grubx64.efi not found",
        fill=_nearest,
    ),
    Symptom(
        "file-refused",
        lambda facts: facts.refusal,
        'stopped after its request for "{file}" was refused: {message}',
        "see the options of the backend that should serve it",
        "RFC 1350 error codes 2 and 4",
    ),
    Symptom(
        "path-mtu",
        _broken("timed_out", _first_block_lost),
        'never acknowledged the first full block of "{file}": packets of {packet} bytes do not arrive',
        "look for a smaller MTU on the way (tunnel, VPN, VLAN), or limit [tftp] max-blksize to 1024",
        "crowbar-core PR 1078, python-tx-tftp PR 33: a block size that the network cannot carry",
        fill=_packet,
    ),
    Symptom(
        "no-transfer",
        _broken("timed_out", _nothing_acknowledged),
        'requested "{file}" and never acknowledged anything that we sent',
        'look for a firewall or NAT between the two that drops UDP from this server; [tftp] ports = "single" sends '
        "from port 69 alone",
        "linuxserver/docker-netbootxyz 11, OpenCHAMI/deployment-recipes 86: TFTP data dropped by NAT",
    ),
    Symptom(
        "transfer-timed-out",
        _broken("timed_out"),
        'fell silent after {progress} of "{file}"; {share} % of the packets were sent again',
        "check the cable, the switch port and the machine; a high share of repetitions is loss on the way",
        _RETRIES,
        fill=_progress,
    ),
    Symptom(
        "client-stopped",
        _broken("stopped_by_peer"),
        'stopped the transfer of "{file}" by itself after {progress}: {detail}',
        "look at the machine's console: out of memory, a signature that does not verify, or a key pressed",
        "facebookarchive/fbtftp 51, RFC 1350 section 7",
        fill=_progress,
    ),
    Symptom(
        "size-probe-only",
        _broken("size_probe"),
        'asked for the size of "{file}" and never read it',
        "firmware does this when the file is too large for its memory, or empty: is it the boot program?",
        "pin/tftp 125: EDK2 asks for the size, ends with ERROR 8, and then reads",
    ),
    Symptom(
        "empty-file",
        _empty,
        'loaded "{file}", which is empty',
        "copy the file again: was the disk full, or is the download still running?",
        "pin/tftp 125: firmware that asks for the size, gets 0, and stops without a word",
    ),
    Symptom(
        "wrong-architecture",
        _wrong_architecture,
        'loaded "{file}", which is {program}, and the machine is {client}',
        'give machines of this architecture their own boot file: [[resolver]] use = "by-architecture"',
        "raspberrypi/rpi-eeprom 182 (served an x86 file), danderson/netboot 132",
        fill=lambda facts, stage: {"program": program(stage.data["architecture"])},
    ),
    Symptom(
        "boot-program-rejected",
        _rejected,
        'loaded "{file}", did not run it, and went on with its next way to boot',
        "with Secure Boot on, the program has to be signed (shim); otherwise it is damaged or for another machine",
        "rhboot/shim 44, netbootxyz/netboot.xyz 1745",
    ),
    Symptom(
        PROGRAM_RETURNED,
        _returned,
        'loaded "{file}", and its firmware started again {seconds:.0f} s later',
        _LOOK_AT_THE_PROGRAM,
        _BOOT_ORDER_AGAIN,
        fill=lambda facts, stage: {"file": facts.loaded[-1].data["file"]},
    ),
    Symptom(
        PROGRAM_RETURNED,
        _returned_again,
        'loaded "{file}", which had returned to the firmware the time before, and nothing else',
        _LOOK_AT_THE_PROGRAM,
        _BOOT_ORDER_AGAIN,
    ),
    Symptom(
        "same-file-again",
        _circle,
        'loaded the boot program "{file}" {loads} times, and nothing else',
        'give it something to go on with: for iPXE name its script as "ipxe" in by-architecture',
        "danderson/netboot 77: endless iPXE loop",
        fill=_times,
    ),
    Symptom(
        "nothing-after-program",
        _without_next_file,
        'loaded "{file}", which was then given no boot file: {reason}',
        'give it something to go on with: for iPXE name its script as "ipxe" in by-architecture',
        "danderson/netboot 77: endless iPXE loop, which this server does not begin",
        fill=lambda facts, stage: {"file": facts.loaded[-1].data["file"]},
    ),
    Symptom(
        "no-address",
        _unless_leased(StageKind.NO_ADDRESS),
        "got no address from this server: {reason}",
        "if this server is to serve it, add its network as a [[dhcp.subnet]], with the address of its relay in "
        '"relays", or reserve an address for it; "bootfw explain" shows the reply',
        _MAAS_BADS,
        Verdict.NOTHING_TO_BOOT,
    ),
    Symptom(
        "pool-exhausted",
        _unless_named(StageKind.POOL_EXHAUSTED),
        "got no address: the pool of {network} has none left",
        "enlarge the pool of the subnet, or shorten its leases",
        _MAAS_BADS,
    ),
    Symptom(
        "lease-not-stored",
        lambda facts: (
            next((each for each in facts.all(StageKind.PROBLEM) if each.data.get("doing") == "store the lease"), None)
            if not facts.has_requested_file
            else None
        ),
        "got no address: its lease could not be stored: {what}",
        "see the log of this server: is the disk of the state directory full, or read-only?",
        "no ACK leaves before its lease is in the store",
    ),
    Symptom(
        "address-refused",
        _unless_leased(StageKind.ADDRESS_REFUSED),
        "was refused the address {address}",
        'it is another client\'s, or of another subnet: see "bootfw leases show {address}"',
        "RFC 2131 section 4.3.2",
    ),
    Symptom(
        "address-declined",
        _unless_leased(StageKind.ADDRESS_DECLINED),
        "declined {address}, because another host uses it",
        "find the host with this fixed address, or take the address out of the pool",
        "RFC 2131 section 3.1, step 5",
    ),
    Symptom(
        "other-server",
        _unless_leased(StageKind.OTHER_SERVER),
        "accepted the offer of another DHCP server, {server}",
        'stop that server, or let it give the addresses and set [dhcp] mode = "proxy" here',
        _MAAS_BADS,
    ),
    Symptom(
        "resolver-failed",
        _unless_named(StageKind.PROBLEM),
        "got no boot file: the resolver {what} failed",
        "see its traceback in the log of this server",
        "a resolver that raises counts as one without an answer",
    ),
    Symptom(
        "resolver-too-slow",
        _slow_resolver,
        "gave up while the resolver {resolver} took {seconds:.1f} s",
        "make what the resolver waits for faster, or have another one answer before it",
        "danderson/netboot 32: a slow lookup in the boot API delays the offer, and the ROM has left by then",
    ),
    Symptom(
        "resolver-unavailable",
        _unavailable_resolver,
        "got no boot file: the resolver {resolver} could not decide: {reason}",
        "look at what the resolver depends on: does it run, and answer in time from this server?",
        "danderson/netboot 32: a slow or dead boot API",
    ),
    Symptom(
        "menu-not-used",
        _menu,
        "was shown a boot menu, and booted none of our files",
        "the entry for the local disk was chosen, or a key was pressed",
        "PXE specification 2.1, section 2.2.3",
        Verdict.NOTHING_TO_BOOT,
    ),
    Symptom(
        "no-boot-file",
        _unless_named(StageKind.NO_FILE, StageKind.NO_ANSWER),
        "was given no boot file: {reason}",
        'this is as configured; "bootfw explain" shows which resolver decides for the machine',
        "a resolver refuses, or none answers",
        Verdict.NOTHING_TO_BOOT,
    ),
    Symptom(
        "probe",
        _probe,
        'was "bootfw probe", whose host loads the files',
        "the command prints whether the machine would boot",
        "cli/netboot.py: it takes no address, so its transfers come from the address of its host",
        Verdict.NOTHING_TO_BOOT,
    ),
    Symptom(
        "offer-not-accepted",
        _no_request,
        "stopped after the OFFER: it never sent a REQUEST{others}",
        "the OFFER does not arrive, or the machine has no address: check the way back to it (spanning tree, VLAN, "
        "relay, firewall), and whether a DHCP server gives it an address",
        _MAAS_BADS,
        fill=_other,
    ),
    Symptom(
        "other-boot-server",
        _other_boot_server,
        "requested nothing here after another boot server, {server}, had answered it",
        "stop that boot server, or have each of the two answer its own machines only",
        _MAAS_BADS,
    ),
    Symptom(
        "boot-server-not-requested",
        _no_4011,
        "stopped after the OFFER: it never requested its boot file of port 4011{others}",
        "typical of a second DHCP server that answers with a boot file, or of a firewall in front of UDP 4011",
        "siderolabs/booter 4, danderson/netboot README.booting (BINL)",
        fill=_other,
    ),
    Symptom(
        "file-not-requested",
        _no_file_request,
        'was given the boot file "{file}", and never requested it{others}',
        "a firewall in front of UDP 69 or of the port of HTTP, another server whose answer it has taken, or a key "
        "pressed at the machine",
        "pypxe 15, ventoy/PXE 68: PXE-E53, PXE-E55",
        fill=_other,
    ),
    Symptom(
        "no-answer",
        _unanswered,
        "sent DISCOVER, and there was no answer for it",
        'see the log of this server; "bootfw explain" shows what the machine would be answered',
        "danderson/netboot 72",
    ),
)
"""In order: the first that applies is the cause."""

_UNKNOWN = Cause(
    "unknown",
    "stopped before it had loaded anything",
    "see the stages of this record, and the console of the machine",
)


def judge(attempt: BootAttempt) -> tuple[Verdict, Cause | None]:
    """Return the verdict on an attempt that is over, and the cause where there is one."""
    facts = Facts(attempt)
    if facts.all(StageKind.UP):
        return Verdict.UP, None
    if any(stage.data.get("by_system") for stage in facts.all(StageKind.REPORT)):
        return Verdict.BOOTED, None
    for symptom in SYMPTOMS:
        found = symptom.applies(facts)
        if found:
            return symptom.verdict, symptom.cause(facts, found)
    if facts.loaded:
        return Verdict.BOOTED, None
    if facts.other_host:
        return Verdict.ELSEWHERE, None
    return Verdict.FAILED, _UNKNOWN
