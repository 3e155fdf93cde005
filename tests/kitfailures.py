"""Runs a contract kit on something that breaks it."""


def failures(kit: object) -> set[str]:
    """Names of the kit's tests that fail, without ``test_``."""
    failed: set[str] = set()
    for name in dir(kit):
        if name.startswith("test_"):
            try:
                getattr(kit, name)()
            except Exception:
                failed.add(name.removeprefix("test_"))
    return failed
