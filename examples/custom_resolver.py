"""A resolver of your own: the machines of a rack boot what stands in the rack's file, others are not ours.

[[resolver]]
use = "custom_resolver:plugin"
prefix = "52:54:00"
file = "racks/blue.ipxe"
"""

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import BootFile, BootRefused, BootRequest, IBootFileResolver, boot_plugin


def lower_case(text: str) -> str:
    return text.lower()


@implementer(IBootFileResolver)
@frozen
class ByRack:
    """Gives one file to all machines whose MACs have the same prefix."""

    prefix: str = field(converter=lower_case)
    file: str
    locked: bool = False

    async def resolve(self, request: BootRequest) -> BootFile | None:
        """Called for every boot client. There is a deadline, since its firmware is waiting."""
        if not request.mac.startswith(self.prefix):
            return None  # not mine: the next resolver is called
        if self.locked:
            raise BootRefused("the rack is locked")  # no later resolver is called
        return BootFile(self.file)


plugin = boot_plugin(IBootFileResolver, ByRack)
