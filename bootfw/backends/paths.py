"""Paths that clients request."""

from bootfw.api import relative_path


def components(path: str) -> list[str]:
    """Split *path* into its components; see relative_path(). An embedder may call a backend with any string."""
    found = relative_path(path)
    return found.split("/") if found else []


def lexical(path: str) -> str:
    """Normalize *path*: relative_path() with each ``..`` resolved without the file system; it stops at the root."""
    resolved: list[str] = []
    for part in components(path):
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
    return "/".join(resolved)
