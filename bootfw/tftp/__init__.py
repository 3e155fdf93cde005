"""TFTP logic: negotiation and the session machines. Pure: no clock, no socket, no Twisted."""
