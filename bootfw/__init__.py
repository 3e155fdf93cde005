"""Network boot services for Twisted: DHCP, proxyDHCP, TFTP and HTTP boot.

The names that plugins and embedders use are in :mod:`bootfw.api`.
"""

__version__ = "0.1.0"
