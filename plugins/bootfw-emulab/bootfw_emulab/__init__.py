"""Emulab's boot services for bootfw: bootinfo names what a node boots, tmcd sends its configuration.

It imports nothing of bootfw but ``bootfw.api``.
"""

__version__ = "0.1.0"
