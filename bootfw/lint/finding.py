"""A mistake that keeps a machine from booting."""

from attrs import frozen


@frozen(order=True)
class Finding:
    """One line for the operator."""

    file: str
    """Where it is on this machine; for a missing file, the file that refers to it."""
    rule: str
    """The same word for the same kind of thing, such as "architecture"."""
    reason: str
    """What is wrong, one sentence without a full stop."""
    remedy: str
    """What would be right."""
