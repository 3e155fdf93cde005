"""Power for bootfw: machines are switched by the Redfish service of their BMCs."""

__version__ = "0.1.0"
