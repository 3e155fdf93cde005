"""The directory of what must outlive the process."""

import os
from pathlib import Path


def state_directory(configured: str = "") -> Path:
    """Where it is; it need not be there yet.

    :param configured: ``state-dir`` of the configuration; "": /var/lib/bootfw for root, for other users the state
    directory of the XDG Base Directory Specification.
    """
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/lib/bootfw")
    # A relative path there is to be ignored, says the specification.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "bootfw"
