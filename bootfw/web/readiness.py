"""Which sockets a service has, and whether it is ready, as JSON values."""

from typing import Any

from bootfw.service import BootService


def readiness(boot: BootService) -> dict[str, Any]:
    """``ready``, and ``waiting``: what keeps it from that."""
    if boot.running:
        return {"ready": True, "waiting": []}
    return {"ready": False, "waiting": [{"reason": "the service is not running"}]}


def socket_records(boot: BootService) -> list[dict[str, Any]]:
    """The sockets that are wanted, each with its state."""
    return [
        {
            "service": row.service,
            "address": row.address[0],
            "port": row.address[1],
            "device": row.note.removeprefix("on "),
            "state": "bound",
            "reason": "",
            "since": None,
        }
        for row in boot.summary()
    ]
