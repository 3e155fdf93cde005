"""All targets, by name."""

from collections.abc import Mapping

from fuzz import packets, service, texts
from fuzz.target import Target

TARGETS: Mapping[str, Target] = {each.name: each for each in (*packets.TARGETS, *texts.TARGETS, *service.TARGETS)}
