"""Bytes to values and back. No state, no clock, no Twisted."""
