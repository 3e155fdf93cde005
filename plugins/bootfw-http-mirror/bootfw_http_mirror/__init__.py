"""A bootfw backend that serves files of a web server, and caches them on disk.

It imports nothing of bootfw but ``bootfw.api``: it is also the example of a plugin in a distribution of its own.
"""

__version__ = "0.1.0"
