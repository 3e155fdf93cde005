"""Paths as clients write them."""

from bootfw.api import relative_path


def components(path: str) -> list[str]:
    """The parts of *path*, see relative_path(). An embedder may call a backend with any string."""
    found = relative_path(path)
    return found.split("/") if found else []


def lexical(path: str) -> str:
    """*path* in one spelling: relative_path() of it with each ``..`` resolved, which stops at the root."""
    kept: list[str] = []
    for part in components(path):
        if part != "..":
            kept.append(part)
        elif kept:
            kept.pop()
    return "/".join(kept)
