"""Emulab's bootinfo and tmcd for bootfw: what a node boots, and its configuration.

It imports nothing of bootfw but ``bootfw.api``.
"""

__version__ = "0.1.0"
