"""The ``pxe-menu`` resolver: a menu that the machine's own firmware shows."""

from collections.abc import Iterator
from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import (
    BootMenu,
    BootMenuItem,
    BootRequest,
    ErrorCollector,
    IBootFileResolver,
    IListableResolver,
    IUniformResolver,
    ListedBootFile,
    boot_plugin,
)
from bootfw.resolvers.checks import BOOT_FILE_KEYS, boot_file, unknown_keys

_KNOWN = ("description", *BOOT_FILE_KEYS)


def _item(entry: Any, index: int) -> BootMenuItem:
    collector = ErrorCollector()
    collector.errors += unknown_keys(entry, _KNOWN, "items", index)
    description = entry.get("description", "")
    if not isinstance(description, str) or not description.isprintable() or not description:
        collector.note("must be a line of text", "items", index, "description")
    file = None
    with collector.under("items", index):
        # What belongs to a file needs one; without any of it the item is the disk.
        file = boot_file(entry) if entry.keys() & set(BOOT_FILE_KEYS) else None
    collector.finish()
    return BootMenuItem(description, file)


@implementer(IUniformResolver, IListableResolver)
@frozen
class PXEMenu:
    """A boot menu that the machine's own firmware shows, with a prompt before it.

    BIOS ROMs show it. UEFI and iPXE are left to the next resolvers, since UEFI's menus seldom work and iPXE has better
    ones in its scripts; a `[[persona]]` with `option-43 = "menu"` sends it to them as well. The machine requests the
    chosen item from port 4011. All of the menu has to fit into 255 bytes.
    """

    items: list[dict[str, Any]]
    """Tables with `description`, and the `file` that it loads; without one it goes on to its disk. The first is the
    default. They may have `server`, `configfile`, `pathprefix` and `reboot-seconds` as well."""
    prompt: str = "Press F8 for other ways to boot"
    """Shown before the menu opens."""
    timeout_seconds: int = 10
    """How long the prompt is shown, 0 to 255. 0: the first item is taken at once. 255: the menu opens, and waits."""
    _menu: BootMenu = field(init=False, repr=False)

    @_menu.default
    def _made(self) -> BootMenu:
        items, collector = [], ErrorCollector()
        for index, entry in enumerate(self.items):
            with collector.under():
                items.append(_item(entry, index))
        collector.finish()
        return BootMenu(items, self.prompt, self.timeout_seconds)

    def boot_files(self) -> Iterator[ListedBootFile]:
        """See IListableResolver."""
        for index, item in enumerate(self._menu.items):
            if item.file is not None:
                yield ListedBootFile(item.file, place=f'items[{index}] "{item.description}"')

    def resolve(self, request: BootRequest) -> BootMenu | None:
        """See IBootFileResolver."""
        return None if request.http else self._menu


plugin = boot_plugin(IBootFileResolver, PXEMenu)
