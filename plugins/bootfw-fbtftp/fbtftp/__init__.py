"""The interface of fbtftp on bootfw's TFTP server: see the README of the distribution bootfw-fbtftp."""

from fbtftp.base_handler import BaseHandler, ResponseData, SessionStats
from fbtftp.base_server import BaseServer

__all__ = ["BaseHandler", "BaseServer", "ResponseData", "SessionStats"]

__version__ = "0.1.0"
