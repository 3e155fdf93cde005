"""All rules together."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bootfw.lint.entries import User, check_entries
from bootfw.lint.finding import Finding
from bootfw.lint.grub import check_grub
from bootfw.lint.ipxe import check_circles, check_ipxe
from bootfw.lint.payloads import check_payload
from bootfw.lint.programs import check_module, check_program, check_syslinux
from bootfw.lint.pxelinux import check_pxelinux
from bootfw.lint.resolved import check_resolvers
from bootfw.lint.tree import Served, Tree

FILE_RULES: Sequence[Callable[[Tree, Served], Iterator[Finding]]] = (
    check_program,
    check_syslinux,
    check_module,
    check_payload,
    check_pxelinux,
    check_grub,
    check_ipxe,
)


def lint(tree: Tree, resolvers: Sequence[tuple[str, Any]], user: User) -> list[Finding]:
    """Everything that is wrong, each thing once, in the order of the files."""
    found = set(check_entries(tree, user))
    for file in tree.files:
        for rule in FILE_RULES:
            found.update(rule(tree, file))
    found.update(check_circles(tree))
    found.update(check_resolvers(tree, resolvers))
    return sorted(found)
