"""The TFTP listener and its transfers."""
