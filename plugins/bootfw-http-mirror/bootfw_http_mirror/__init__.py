"""A bootfw backend that gives files from a web server and keeps them in a cache on disk.

It imports nothing of bootfw but ``bootfw.api``: it is also the example of a plugin in a distribution of its own.
"""

__version__ = "0.1.0"
