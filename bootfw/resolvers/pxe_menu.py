"""The ``pxe-menu`` resolver: a PXE boot menu, which the firmware of the machine shows."""

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

_KEYS = ("description", *BOOT_FILE_KEYS)


def _item(entry: Any, index: int) -> BootMenuItem:
    collector = ErrorCollector()
    collector.errors += unknown_keys(entry, _KEYS, "items", index)
    description = entry.get("description", "")
    if not isinstance(description, str) or not description.isprintable() or not description:
        collector.note("must be a line of text", "items", index, "description")
    file = None
    with collector.under("items", index):
        # An item without any key of a boot file boots the local disk.
        file = boot_file(entry) if entry.keys() & set(BOOT_FILE_KEYS) else None
    collector.finish()
    return BootMenuItem(description, file)


@implementer(IUniformResolver, IListableResolver)
@frozen
class PXEMenu:
    """A PXE boot menu, which the firmware of the machine shows after a prompt.

    The ROMs of a BIOS show it. For UEFI and iPXE the next resolver is called, since UEFI's menus seldom work and iPXE
    has better ones in its scripts; a `[[persona]]` with `option-43 = "menu"` sends the menu to them too. The machine
    requests the chosen item from port 4011. The whole menu has to fit into 255 bytes.
    """

    items: list[dict[str, Any]]
    """Tables with `description` and the `file` that the item loads; without `file` the machine boots its disk. The
    first item is the default. They may also have `server`, `configfile`, `pathprefix` and `reboot-seconds`."""
    prompt: str = "Press F8 for other ways to boot"
    """Shown before the menu opens."""
    timeout_seconds: int = 10
    """How long the prompt is shown, 0 to 255. 0: the first item is taken at once. 255: the menu opens, and waits."""
    _menu: BootMenu = field(init=False, repr=False)

    @_menu.default
    def _checked_menu(self) -> BootMenu:
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
                yield ListedBootFile(item.file, option=f'items[{index}] "{item.description}"')

    def resolve(self, request: BootRequest) -> BootMenu | None:
        """See IBootFileResolver."""
        return None if request.http else self._menu


plugin = boot_plugin(IBootFileResolver, PXEMenu)
