"""Runs all rules."""

from collections.abc import Callable, Iterator, Sequence

from bootfw.ability import provides
from bootfw.interfaces import IBackend, IBootFileResolver, ILintable
from bootfw.lint.entries import User, check_entries
from bootfw.lint.grub import check_grub
from bootfw.lint.images import check_images
from bootfw.lint.ipxe import check_circles, check_ipxe
from bootfw.lint.payloads import check_payload
from bootfw.lint.programs import check_module, check_program, check_syslinux
from bootfw.lint.pxelinux import check_pxelinux
from bootfw.lint.resolved import check_resolvers
from bootfw.lint.tree import Served, Tree
from bootfw.values import Finding

FILE_RULES: Sequence[Callable[[Tree, Served], Iterator[Finding]]] = (
    check_program,
    check_syslinux,
    check_module,
    check_payload,
    check_pxelinux,
    check_grub,
    check_ipxe,
)


def lint(
    tree: Tree,
    resolvers: Sequence[tuple[str, IBootFileResolver]],
    user: User,
    backends: Sequence[tuple[str, IBackend]] = (),
) -> list[Finding]:
    """Run all rules. Return the findings in the order of the files, each once.

    :param backends: (name, backend); backends and resolvers that provide ILintable check their own files.
    """
    found = set(check_entries(tree, user))
    for _, plugin in (*backends, *resolvers):
        if provides(plugin, ILintable):
            found.update(plugin.lint())
    for file in tree.files:
        if file.damage:
            found.add(_damaged(file, file.damage))
            continue
        try:
            for rule in FILE_RULES:
                found.update(rule(tree, file))
        except OSError as error:
            found.add(_damaged(file, error.strerror or str(error)))
    found.update(check_circles(tree))
    found.update(check_images(tree, backends))
    found.update(check_resolvers(tree, resolvers))
    return sorted(found)


def _damaged(file: Served, reason: str) -> Finding:
    return Finding(
        file.host_path, "unreadable", f"it can't be read: {reason}", "check the disk, or copy the file again"
    )
