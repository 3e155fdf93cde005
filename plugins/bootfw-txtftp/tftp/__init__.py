"""The interface of python-tx-tftp on bootfw's sessions: see the README of the distribution bootfw-txtftp."""

__version__ = "0.1.0"
