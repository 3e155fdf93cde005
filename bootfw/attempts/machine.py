"""The machines that have boot attempts, with what is known of each from the latest ones."""

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from bootfw.attempts.attempt import BootAttempt, Verdict


@frozen
class Machine:
    """A machine that has booted, or has tried to."""

    last: BootAttempt
    """Its latest boot."""
    uuid: str = ""
    """In SMBIOS text form; "" when it is not known. Some loaders send none, so it may be that of an earlier boot."""
    persona: str = ""
    """The persona of its firmware, from the latest boot that has one."""
    architecture: str = ""
    """Of wire/iana.py; "" when it is not known."""
    addresses: tuple[str, ...] = ()
    """IP addresses of the latest boot that has any."""
    boots: int = 1
    """Recorded boots."""
    failed: int = 0
    """How many of them failed."""

    @property
    def client(self) -> str:
        """Its MAC, or else its UUID, or else an address."""
        return self.last.client


def machines_of(attempts: Iterable[BootAttempt]) -> Sequence[Machine]:
    """Return the machine of each of *attempts*, once; the one that booted last is the first.

    :param attempts: in any order.
    """
    found: dict[str, Machine] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.began, reverse=True):
        failed = attempt.verdict is Verdict.FAILED
        machine = found.get(attempt.client)
        if machine is None:
            machine = Machine(attempt, boots=0)
        found[attempt.client] = evolve(
            machine,
            uuid=machine.uuid or attempt.uuid,
            persona=machine.persona or attempt.persona,
            architecture=machine.architecture or attempt.architecture,
            addresses=machine.addresses or attempt.addresses,
            boots=machine.boots + 1,
            failed=machine.failed + failed,
        )
    return list(found.values())
